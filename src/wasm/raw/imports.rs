//! What raw modules may import, and whether a module is one.

use std::sync::Arc;

use caxton_shards::domain::CapabilityName;
use wasmtime::{Caller, Engine, ExternType, FuncType, InstancePre, Linker, Module, ValType};

use super::super::guest::Problem;
use super::super::host::{Answer, Excess, Host, Question, STATE_KEY_BYTES_MAX};
use super::super::log::{LogLevel, LogLine};

/// The module that raw guests import from.
const ROUTER: &str = "caxton";
/// The imports under that name: the functions of [`linker`].
const IMPORTS: [&str; 6] = ["now_ms", "random", "log", "discover", "get", "put"];
/// Maximum length of a logged text, in bytes. The rest is cut off.
const LOG_BYTES_MAX: usize = 4_096;
/// Maximum length of a capability's name, in bytes.
const CAPABILITY_BYTES_MAX: usize = 400;

/// Returns a linker with the router's functions.
pub(in super::super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(ROUTER, "now_ms", |mut caller: Caller<'_, Host>| -> wasmtime::Result<u64> {
        caller.data_mut().count_call()?;
        Ok(caller.data().now.0)
    })?;
    linker.func_wrap(ROUTER, "random", |mut caller: Caller<'_, Host>| -> wasmtime::Result<u64> {
        caller.data_mut().count_call()?;
        Ok(caller.data_mut().random())
    })?;
    linker.func_wrap(ROUTER, "log", |mut caller: Caller<'_, Host>, level: u32, at: u32, length: u32| {
        caller.data_mut().count_call()?;
        let bytes = read(&mut caller, at, length.min(u32::try_from(LOG_BYTES_MAX).unwrap_or(u32::MAX)))?;
        let level = LogLevel::ALL.get(level as usize).copied().unwrap_or(LogLevel::Error);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let host = caller.data_mut();
        host.log.write(LogLine { at: host.now, agent: host.me, level, text, fields: Vec::new() });
        wasmtime::Result::Ok(())
    })?;
    linker.func_wrap_async(
        ROUTER,
        "discover",
        |mut caller: Caller<'_, Host>, (at, length, out, most): (u32, u32, u32, u32)| {
            Box::new(async move {
                caller.data_mut().count_call()?;
                if length as usize > CAPABILITY_BYTES_MAX {
                    return Ok(-1);
                }
                let bytes = read(&mut caller, at, length)?;
                let Ok(name) = CapabilityName::try_new(String::from_utf8_lossy(&bytes)) else { return Ok(-1) };
                let desk = Arc::clone(&caller.data().desk);
                let Answer::Found(agents) = desk.ask(Question::Discover(name)).await else { return Ok(-1) };
                let bytes: Vec<u8> =
                    agents.iter().take(most as usize).flat_map(|agent| agent.to_u128().to_le_bytes()).collect();
                write(&mut caller, out, &bytes)?;
                Ok(i32::try_from(agents.len()).unwrap_or(i32::MAX))
            })
        },
    )?;
    linker.func_wrap(
        ROUTER,
        "get",
        |mut caller: Caller<'_, Host>, at: u32, length: u32, out: u32, most: u32| -> wasmtime::Result<i32> {
            caller.data_mut().count_call()?;
            let Some(key) = key(&mut caller, at, length)? else { return Ok(-1) };
            let Some(value) = caller.data().recall(&key) else { return Ok(-1) };
            write(&mut caller, out, &value[..value.len().min(most as usize)])?;
            Ok(i32::try_from(value.len()).unwrap_or(i32::MAX))
        },
    )?;
    linker.func_wrap(
        ROUTER,
        "put",
        |mut caller: Caller<'_, Host>, at: u32, length: u32, value: u32, bytes: i32| -> wasmtime::Result<i32> {
            caller.data_mut().count_call()?;
            let Some(key) = key(&mut caller, at, length)? else { return Ok(-1) };
            let value = match u32::try_from(bytes) {
                Ok(bytes) if u64::from(bytes) > caller.data().limits.state_bytes.into_inner() => return Ok(-1),
                Ok(bytes) => Some(read(&mut caller, value, bytes)?),
                Err(_) => None,
            };
            Ok(if caller.data_mut().remember(key, value).is_ok() { 0 } else { -1 })
        },
    )?;
    Ok(linker)
}

fn key(caller: &mut Caller<'_, Host>, at: u32, length: u32) -> wasmtime::Result<Option<String>> {
    if length as usize > STATE_KEY_BYTES_MAX {
        return Ok(None);
    }
    Ok(String::from_utf8(read(caller, at, length)?).ok())
}

/// Copies a part of the guest's memory.
fn read(caller: &mut Caller<'_, Host>, at: u32, length: u32) -> wasmtime::Result<Vec<u8>> {
    let memory = caller.data().raw_memory.ok_or(Excess::Pointer)?;
    let bytes = memory.data(&*caller).get(at as usize..).and_then(|bytes| bytes.get(..length as usize));
    Ok(bytes.ok_or(Excess::Pointer)?.to_vec())
}

fn write(caller: &mut Caller<'_, Host>, at: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    let memory = caller.data().raw_memory.ok_or(Excess::Pointer)?;
    let place = memory.data_mut(&mut *caller).get_mut(at as usize..).and_then(|place| place.get_mut(..bytes.len()));
    place.ok_or(Excess::Pointer)?.copy_from_slice(bytes);
    Ok(())
}

/// Checks that a module has the exports of a raw guest, and no other imports.
pub(in super::super) fn prepare(linker: &Linker<Host>, module: &Module) -> Result<InstancePre<Host>, Vec<Problem>> {
    let mut problems = Vec::new();
    match module.get_export("memory") {
        Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared() => {}
        Some(ExternType::Memory(_)) => problems.push(Problem("its memory is shared or has 64 bits".to_owned())),
        _ => problems.push(Problem("it exports no memory under the name memory".to_owned())),
    }
    let i32 = ValType::I32;
    let wanted = [
        ("caxton_buffer_v1", vec![i32.clone()], vec![i32.clone()], true),
        ("caxton_handle_v1", vec![i32.clone(), i32.clone()], vec![ValType::I64], true),
        ("caxton_start_v1", vec![], vec![], false),
        ("caxton_stop_v1", vec![], vec![], false),
        ("_initialize", vec![], vec![], false),
    ];
    for (name, parameters, results, mandatory) in wanted {
        let is = match module.get_export(name) {
            None if !mandatory => continue,
            None => "it is missing".to_owned(),
            Some(ExternType::Func(found)) if is_of(&found, &parameters, &results) => continue,
            Some(found) => format!("it is {}", describe(&found)),
        };
        problems.push(Problem(format!("the export {name} has to be {}, and {is}", form(&parameters, &results))));
    }
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        if from.starts_with("wasi") {
            problems.push(Problem(format!("it imports {from} {name}: a raw guest has no WASI")));
        } else if from != ROUTER || !IMPORTS.contains(&name) {
            problems.push(Problem(format!("it imports {from} {name}, which does not exist")));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    linker.instantiate_pre(module).map_err(|error| vec![Problem(format!("{error:#}"))])
}

fn is_of(found: &FuncType, parameters: &[ValType], results: &[ValType]) -> bool {
    let same = |left: &mut dyn Iterator<Item = ValType>, right: &[ValType]| {
        let left: Vec<ValType> = left.collect();
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| ValType::eq(left, right))
    };
    same(&mut found.params(), parameters) && same(&mut found.results(), results)
}

fn form(parameters: &[ValType], results: &[ValType]) -> String {
    let names = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("a function ({}) -> ({})", names(parameters), names(results))
}

fn describe(found: &ExternType) -> String {
    match found {
        ExternType::Func(found) => form(&found.params().collect::<Vec<_>>(), &found.results().collect::<Vec<_>>()),
        ExternType::Global(_) => "a global".to_owned(),
        ExternType::Table(_) => "a table".to_owned(),
        ExternType::Memory(_) => "a memory".to_owned(),
        ExternType::Tag(_) => "a tag".to_owned(),
    }
}
