//! The attributes of this process in all telemetry.

use std::hash::{BuildHasher as _, RandomState};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_semantic_conventions::resource::{
    HOST_NAME, PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME, TELEMETRY_SDK_VERSION,
};

use crate::config::OtlpConfig;
use crate::telemetry::otlp::attribute;

/// The service's name unless one is configured.
const DEFAULT_SERVICE_NAME: &str = "caxton";

/// Returns what describes this process; `service.instance.id` differs from call to call. Configured attributes take
/// precedence, and a configured name of the service over them.
pub(super) fn resource(settings: &OtlpConfig) -> Resource {
    let mut attributes = vec![
        attribute(SERVICE_NAME, text(DEFAULT_SERVICE_NAME)),
        attribute(SERVICE_VERSION, text(env!("CARGO_PKG_VERSION"))),
        attribute(SERVICE_INSTANCE_ID, text(&random_uuid())),
        attribute(HOST_NAME, text(&rustix::system::uname().nodename().to_string_lossy())),
        attribute(PROCESS_PID, Value::IntValue(i64::from(std::process::id()))),
        attribute(TELEMETRY_SDK_NAME, text(env!("CARGO_PKG_NAME"))),
        attribute(TELEMETRY_SDK_LANGUAGE, text("rust")),
        attribute(TELEMETRY_SDK_VERSION, text(env!("CARGO_PKG_VERSION"))),
    ];
    let service = settings.service.name().map(|name| (SERVICE_NAME, name));
    for (name, value) in settings.attributes.iter().chain(service) {
        let value = text(value);
        match attributes.iter_mut().find(|attribute| attribute.key == name) {
            Some(known) => *known = attribute(name, value),
            None => attributes.push(attribute(name, value)),
        }
    }
    Resource { attributes, ..Resource::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

/// Returns a UUID of version 4, from the random keys of the standard library's hash.
fn random_uuid() -> String {
    let (high, low) = (RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn value(resource: &Resource, key: &str) -> Option<Value> {
        let mut found = resource.attributes.iter().filter(|attribute| attribute.key == key);
        let value = found.next()?.value.clone()?.value;
        assert!(found.next().is_none(), "{key} is there once");
        value
    }

    #[test]
    fn configured_attributes_take_precedence() {
        let mut config = Config::default();
        assert_eq!(value(&resource(&config.otlp), SERVICE_NAME), Some(text("caxton")));
        config.set("otlp.attributes", "service.name=a, host.name=h, team=t", "test").expect("it is legal");
        let described = resource(&config.otlp);
        assert_eq!(value(&described, SERVICE_NAME), Some(text("a")));
        assert_eq!(value(&described, HOST_NAME), Some(text("h")));
        assert_eq!(value(&described, "team"), Some(text("t")));
        config.set("otlp.service", "b", "test").expect("it is legal");
        assert_eq!(value(&resource(&config.otlp), SERVICE_NAME), Some(text("b")));
    }

    #[test]
    fn a_uuid_has_its_form_and_is_new_each_time() {
        let uuid = random_uuid();
        let parts: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        assert!(uuid.as_bytes()[14] == b'4' && b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(uuid, random_uuid());
    }
}
