//! WebAssembly guests that attack their shard.

use caxton_router::domain::AgentName;
use caxton_router::routing::ShardIndex;
use caxton_router::wasm::Sandbox;
use caxton_router::{AgentId, Registration, Router};

use super::cast::Named;
use super::run::Plan;

/// The handlers' bodies.
const BODIES: [(&str, &str); 6] = [
    ("endless-loop", "(loop $ever (br $ever)) (i64.const 0)"),
    ("memory-bomb", "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"),
    ("host-call-flood", "(loop $ever (drop (call $random)) (br $ever)) (i64.const 0)"),
    ("stack-overflow", "(call $deep) (i64.const 0)"),
    ("huge-answer", "(i64.const 0x0000040010000000)"),
    ("bad-pointer", "(i64.const 0x7fffffff00000010)"),
];

/// Creates one of each kind on every shard.
///
/// # Errors
///
/// They could not be created.
pub fn guests(plan: &Plan, router: &Router) -> Result<(Vec<Registration>, Vec<Named>), String> {
    let sandbox = Sandbox::start(&plan.config.wasm).map_err(|error| error.to_string())?;
    let (mut registrations, mut named) = (Vec::new(), Vec::new());
    for (kind, body) in BODIES {
        let text = format!(
            r#"(module
                (import "caxton" "random" (func $random (result i64)))
                (memory (export "memory") 1)
                (func $deep (call $deep))
                (func (export "caxton_buffer_v1") (param i32) (result i32) (i32.const 1024))
                (func (export "caxton_handle_v1") (param i32 i32) (result i64) {body}))"#
        );
        let module = wat::parse_str(text).map_err(|error| format!("{kind}: {error}"))?;
        let guest = sandbox.load(kind, &module).map_err(|error| error.to_string())?;
        for shard in 0..router.shard_count() {
            let name = router.partition().name_on(ShardIndex(shard), kind);
            let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
            registrations.push(guest.agent(name.clone()));
            named.push(Named { id: AgentId::of(&name), name, shard: usize::from(shard) });
        }
    }
    Ok((registrations, named))
}
