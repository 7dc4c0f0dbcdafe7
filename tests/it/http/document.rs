//! The OpenAPI document: it has every route, and nothing else.

use super::Served;
use crate::common::bounded;

const MANUAL: &str = include_str!("../../../src/manual/http.md");

#[test]
fn the_document_names_operations_that_exist_and_schemas_that_are_there() {
    bounded(|| {
        let served = Served::start();
        let mut client = served.client();
        let document = client.get("/openapi.json").expect(200);
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name: String = reference.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(document["components"]["schemas"][&name].is_object(), "there is no schema {name}");
        }
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().expect("there are paths") {
            assert!(MANUAL.contains(&format!("`{path}`")), "the manual has no {path}");
            let filled = path.replace("{name}", "a").replace("{capability}", "b").replace("{id}", "d0-1");
            for (method, operation) in methods.as_object().expect("there are methods") {
                operations += 1;
                assert!(operation["operationId"].is_string() && operation["summary"].is_string());
                client.send(&method.to_uppercase(), &filled, "Connection: keep-alive\r\n", b"");
                let (status, head) = client.read_head();
                assert!(
                    operation["responses"][status.to_string()].is_object(),
                    "{method} {filled} has an undocumented response: {head}"
                );
                assert_ne!(status, 405, "{method} {filled}");
                client = served.client();
            }
            // A method that is not documented is not there.
            for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
                if methods.get(method.to_lowercase()).is_none() {
                    let response = served.client().request(method, &filled, "", "");
                    response.problem(405, "method-not-allowed");
                }
            }
        }
        assert!(operations > 10, "{operations}");
        served.stop();
    });
}
