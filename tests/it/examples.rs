//! The examples run to their end and report success.
//!
//! Cargo builds them in every `cargo test`; here they are part of the test, so that they are also executed.

use crate::common::bounded;

/// Each example is a module here, and its `main` an ordinary function.
macro_rules! examples {
    ($($name:ident: $path:literal;)+) => {
        $(
            #[path = $path]
            mod $name;
        )+

        $(
            #[test]
            fn $name() {
                bounded(|| $name::main().expect("the example succeeds"));
            }
        )+
    };
}

examples! {
    embed: "../../examples/embed.rs";
    embed_tokio: "../../examples/embed_tokio.rs";
    outside_inbox: "../../examples/outside_inbox.rs";
    contract_net: "../../examples/contract_net.rs";
    virtual_time: "../../examples/virtual_time.rs";
}
