//! Stubs for interfaces that are never granted, so that a guest that imports them without calling them can be loaded.
//! Language runtimes import files and sockets whether or not their program uses them.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentExtern, ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType, Val};
use wasmtime_wasi_io::poll::DynPollable;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::is_wasi;
use super::output::Terminal;
use crate::wasm::host::Host;

/// A call of a stub. The guest traps.
#[derive(Debug, thiserror::Error)]
#[error("it called {function} of {interface}, which is a stub: WASI has it, and guests are never granted it")]
struct Stubbed {
    interface: String,
    function: String,
}

/// The type of all resources that only stubs have. There are no values of it.
struct Nothing;

/// Links stubs for the WASI interfaces that a component imports and that are not granted. Types that they share with
/// granted ones, such as streams, are kept.
pub(super) fn link(
    linker: &mut Linker<Host>,
    component: &Component,
    is_given: impl Fn(&str) -> bool,
) -> wasmtime::Result<()> {
    let (kind, engine) = (component.component_type(), component.engine());
    let instances = kind.imports(engine).filter_map(|(interface, item)| match item.ty {
        ComponentItem::ComponentInstance(instance) if is_wasi(interface) => Some((interface, instance)),
        _ => None,
    });
    let (given, others): (Vec<_>, Vec<_>) = instances.partition(|(interface, _)| is_given(interface));
    let given: Vec<_> = given.iter().flat_map(|(interface, instance)| resources(engine, interface, instance)).collect();
    for (interface, instance) in others {
        stand_in(linker.instance(interface)?, engine, interface, &instance, &given)?;
    }
    Ok(())
}

/// Returns the types of a granted interface's resources: the component's and the router's.
fn resources(engine: &Engine, interface: &str, instance: &ComponentInstance) -> Vec<(ResourceType, ResourceType)> {
    let own = |name: &str| {
        Some(match (interface.split_once('@')?.0, name) {
            ("wasi:io/poll", "pollable") => ResourceType::host::<DynPollable>(),
            ("wasi:io/streams", "input-stream") => ResourceType::host::<DynInputStream>(),
            ("wasi:io/streams", "output-stream") => ResourceType::host::<DynOutputStream>(),
            ("wasi:io/error", "error") => ResourceType::host::<wasmtime_wasi_io::streams::Error>(),
            ("wasi:cli/terminal-input" | "wasi:cli/terminal-output", _) => ResourceType::host::<Terminal>(),
            _ => return None,
        })
    };
    let resource = |(name, item): (&str, ComponentExtern<'_>)| match item.ty {
        ComponentItem::Resource(seen) => Some((seen, own(name)?)),
        _ => None,
    };
    instance.exports(engine).filter_map(resource).collect()
}

fn stand_in(
    mut stubs: LinkerInstance<'_, Host>,
    engine: &Engine,
    interface: &str,
    instance: &ComponentInstance,
    given: &[(ResourceType, ResourceType)],
) -> wasmtime::Result<()> {
    for (function, item) in instance.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) if is_empty_list(interface, function) => {
                stubs.func_new(function, |mut store, _, _, results| {
                    store.data_mut().count_call()?;
                    results.fill(Val::List(Vec::new()));
                    Ok(())
                })?;
            }
            ComponentItem::ComponentFunc(_) => {
                let (interface, name) = (interface.to_owned(), function.to_owned());
                stubs.func_new(function, move |_, _, _, _| {
                    Err(Stubbed { interface: interface.clone(), function: name.clone() }.into())
                })?;
            }
            ComponentItem::Resource(seen) => {
                let own = given.iter().find(|(other, _)| *other == seen).map(|(_, own)| *own);
                stubs.resource(function, own.unwrap_or_else(ResourceType::host::<Nothing>), |_, _| Ok(()))?;
            }
            // Other types need no implementation.
            _ => {}
        }
    }
    Ok(())
}

/// The C library asks which directories there are before it writes its first line. There are none, and saying so
/// reveals nothing.
fn is_empty_list(interface: &str, function: &str) -> bool {
    interface.starts_with("wasi:filesystem/preopens@0.2.") && function == "get-directories"
}
