//! Limits on the cost of compiling a module.
//!
//! A few bytes can stand for much work: a function of four bytes is compiled like any other, one declaration stands for
//! fifty thousand local variables, and one call may pass a thousand values. A module is therefore read once before
//! anything is compiled, which takes almost no memory and some milliseconds per MiB. Other errors in a module are left
//! to the compiler.

use wasmparser::{
    BinaryReaderError, BlockType, CompositeInnerType, Encoding, FunctionBody, ImportSectionReader, Operator, Parser,
    Payload, TypeRef, TypeSectionReader,
};

use crate::config::WasmConfig;

/// Number of values passed by a call, or by a block, that are not counted.
const FREE_VALUES: usize = 8;

/// A module exceeds a limit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it has {found} {what}: {setting} allows {allowed}")]
pub struct ExcessError {
    /// What there is too much of.
    pub what: &'static str,
    /// How much there is, as far as the module was read.
    pub found: usize,
    /// The limit.
    pub allowed: usize,
    /// The setting that sets it.
    pub setting: &'static str,
}

/// Checks a module or component against the settings.
///
/// # Errors
///
/// Returns the first limit that is exceeded.
pub(super) fn check(bytes: &[u8], config: &WasmConfig) -> Result<(), ExcessError> {
    let bytes_max = check_size(bytes.len(), config)?;
    let mut counts = Counts::new(config, bytes_max);
    for payload in Parser::new(0).parse_all(bytes) {
        // The compiler reports other errors.
        let Ok(payload) = payload else { return Ok(()) };
        match counts.add(payload) {
            Ok(()) => {}
            Err(Stop::Excess(excess)) => return Err(excess),
            Err(Stop::Invalid) => return Ok(()),
        }
    }
    Ok(())
}

/// Checks the size of a file, and returns the limit.
pub(super) fn check_size(bytes: usize, config: &WasmConfig) -> Result<usize, ExcessError> {
    let most = usize::try_from(config.module_bytes.into_inner()).unwrap_or(usize::MAX);
    within("bytes", bytes, most, "wasm.module_bytes").map(|()| most)
}

fn within(what: &'static str, found: usize, allowed: usize, setting: &'static str) -> Result<(), ExcessError> {
    if found <= allowed { Ok(()) } else { Err(ExcessError { what, found, allowed, setting }) }
}

/// Why reading a module ended early.
enum Stop {
    Excess(ExcessError),
    Invalid,
}

impl From<ExcessError> for Stop {
    fn from(excess: ExcessError) -> Self {
        Self::Excess(excess)
    }
}

impl From<BinaryReaderError> for Stop {
    fn from(_: BinaryReaderError) -> Self {
        Self::Invalid
    }
}

/// What was counted so far.
struct Counts<'a> {
    config: &'a WasmConfig,
    bytes_max: usize,
    functions: usize,
    /// The total weight of all functions.
    weight: usize,
    modules: usize,
    components: usize,
    instances: usize,
    /// The module being read.
    module: Module,
}

/// The number of parameters and results of a module's functions.
#[derive(Default)]
struct Module {
    by_type: Vec<usize>,
    by_function: Vec<usize>,
}

impl<'a> Counts<'a> {
    fn new(config: &'a WasmConfig, bytes_max: usize) -> Self {
        Self {
            config,
            bytes_max,
            functions: 0,
            weight: 0,
            modules: 0,
            components: 0,
            instances: 0,
            module: Module::default(),
        }
    }

    fn add(&mut self, payload: Payload<'_>) -> Result<(), Stop> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                self.modules += 1;
                self.module = Module::default();
            }
            Payload::Version { encoding: Encoding::Component, .. } => self.components += 1,
            Payload::InstanceSection(section) => self.instances += section.count() as usize,
            Payload::ComponentInstanceSection(section) => self.instances += section.count() as usize,
            Payload::TypeSection(section) => self.module.add_types(section)?,
            Payload::ImportSection(section) => self.module.add_imports(section)?,
            Payload::FunctionSection(section) => {
                self.functions += section.count() as usize;
                within("functions", self.functions, self.config.functions.as_usize(), "wasm.functions")?;
                for function in section {
                    let values = self.module.values_of_type(function?);
                    self.module.by_function.push(values);
                }
            }
            Payload::CodeSectionEntry(body) => self.add_function(&body)?,
            _ => {}
        }
        let parts_max = self.config.component_parts.as_usize();
        within("modules", self.modules, parts_max, "wasm.component_parts")?;
        within("components", self.components, parts_max, "wasm.component_parts")?;
        within("instances", self.instances, parts_max, "wasm.component_parts")?;
        Ok(())
    }

    fn add_function(&mut self, body: &FunctionBody<'_>) -> Result<(), Stop> {
        const WHAT: &str = "bytes in one function, its variables and what its calls pass included";
        let most = self.config.function_bytes.as_usize();
        let depth_max = self.config.block_depth.as_usize();
        let mut weight = body.range().len();
        within(WHAT, weight, most, "wasm.function_bytes")?;
        for local in body.get_locals_reader()? {
            weight = weight.saturating_add(local?.0 as usize);
        }
        let mut depth = 0_usize;
        for operator in body.get_operators_reader()? {
            let values = match operator? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    self.module.by_function.get(function_index as usize).copied().unwrap_or_default()
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. }
                | Operator::CallRef { type_index }
                | Operator::ReturnCallRef { type_index } => self.module.values_of_type(type_index),
                Operator::Block { blockty }
                | Operator::Loop { blockty }
                | Operator::If { blockty }
                | Operator::Try { blockty }
                | Operator::TryTable { try_table: wasmparser::TryTable { ty: blockty, .. } } => {
                    depth += 1;
                    within("blocks in each other", depth, depth_max, "wasm.block_depth")?;
                    if let BlockType::FuncType(index) = blockty { self.module.values_of_type(index) } else { 0 }
                }
                Operator::End | Operator::Delegate { .. } => {
                    depth = depth.saturating_sub(1);
                    0
                }
                _ => 0,
            };
            weight = weight.saturating_add(values.saturating_sub(FREE_VALUES));
            within(WHAT, weight, most, "wasm.function_bytes")?;
        }
        within(WHAT, weight, most, "wasm.function_bytes")?;
        self.weight = self.weight.saturating_add(weight);
        within("bytes in all functions, counted likewise", self.weight, self.bytes_max, "wasm.module_bytes")?;
        Ok(())
    }
}

impl Module {
    fn add_types(&mut self, section: TypeSectionReader<'_>) -> Result<(), Stop> {
        for group in section {
            for ty in group?.types() {
                let values = match &ty.composite_type.inner {
                    CompositeInnerType::Func(function) => function.params().len() + function.results().len(),
                    _ => 0,
                };
                self.by_type.push(values);
            }
        }
        Ok(())
    }

    fn add_imports(&mut self, section: ImportSectionReader<'_>) -> Result<(), Stop> {
        for import in section.into_imports() {
            if let TypeRef::Func(index) | TypeRef::FuncExact(index) = import?.ty {
                let values = self.values_of_type(index);
                self.by_function.push(values);
            }
        }
        Ok(())
    }

    fn values_of_type(&self, index: u32) -> usize {
        self.by_type.get(index as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, change: impl FnOnce(&mut WasmConfig)) -> Result<(), ExcessError> {
        let mut config = crate::config::Config::default().wasm;
        change(&mut config);
        check(&wat::parse_str(text).expect("WebAssembly as text"), &config)
    }

    fn setting<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("a legal setting")
    }

    #[test]
    fn functions_are_counted_over_all_modules_of_a_component() {
        let module = format!("(core module {})", "(func)".repeat(60));
        let component = format!("(component {module}{module})");
        let few = |config: &mut WasmConfig| config.functions = setting("100");
        let excess = found(&component, few).expect_err("there are 120");
        assert_eq!(excess.to_string(), "it has 120 functions: wasm.functions allows 100");
        assert_eq!(found(&component, |config| config.functions = setting("120")), Ok(()));
        let parts = |config: &mut WasmConfig| config.component_parts = setting("1");
        assert_eq!(found(&component, parts).expect_err("there are two").what, "modules");
    }

    #[test]
    fn what_few_bytes_stand_for_counts() {
        let small = |config: &mut WasmConfig| config.function_bytes = setting("2048");
        let what = |text: &str| found(text, small).err().map(|excess| excess.setting);
        assert_eq!(what(&format!("(module (func {}))", "nop ".repeat(1_000))), None);
        assert_eq!(what(&format!("(module (func {}))", "nop ".repeat(3_000))), Some("wasm.function_bytes"));
        let locals = |count: usize| format!("(module (func (local {})))", "i32 ".repeat(count));
        assert_eq!((what(&locals(1_000)), what(&locals(3_000))), (None, Some("wasm.function_bytes")));
        let calls = |count: usize| {
            let (type_of, values) = ("i32 ".repeat(500), "(i32.const 0) ".repeat(500));
            format!("(module (func $f (param {type_of})) (func {}))", format!("{values} call $f ").repeat(count))
        };
        // Five hundred constants of two bytes, and the values passed by the call.
        assert_eq!((what(&calls(1)), what(&calls(2))), (None, Some("wasm.function_bytes")));
        let blocks = |count: usize| format!("(module (func {}{}))", "block ".repeat(count), "end ".repeat(count));
        let flat = |config: &mut WasmConfig| config.block_depth = setting("100");
        assert_eq!(found(&blocks(100), flat), Ok(()));
        assert_eq!(found(&blocks(101), flat).expect_err("it is too deep").setting, "wasm.block_depth");
        assert_eq!(found(&format!("(module (func {}))", "block end ".repeat(200)), flat), Ok(()));
    }

    #[test]
    fn all_functions_together_count_as_much_as_a_module_may_have_bytes() {
        let text = format!("(module {})", "(func (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32))".repeat(200));
        let small = |config: &mut WasmConfig| config.module_bytes = setting("2048");
        let excess = found(&text, small).expect_err("there are 2,000 variables");
        assert_eq!((excess.setting, excess.allowed), ("wasm.module_bytes", 2_048));
    }
}
