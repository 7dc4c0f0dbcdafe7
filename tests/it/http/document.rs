//! The OpenAPI document: it has every route, and nothing else.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::{OCCURRED, Served, access, agents, cluster, messages, operate, receive, socket};
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
            let mut head = served.client();
            head.send("HEAD", &filled, "", b"");
            assert_eq!(head.read_head().0, 405, "HEAD {filled}");
        }
        assert!(operations > 10, "{operations}");
        served.stop();
    });
}

/// Whether a path is one of those that a template stands for.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(part, found)| part.starts_with('{') || *part == found)
}

#[test]
fn the_documented_responses_occur() {
    let tests: &[fn()] = &[
        access::a_token_is_required_and_permits_its_operations_as_its_agents,
        access::without_tokens_no_page_of_another_origin_is_served,
        access::what_is_not_served_is_a_problem_too,
        access::requests_beyond_the_rate_are_refused,
        access::with_a_certificate_everything_is_encrypted,
        agents::agents_are_listed_page_by_page,
        agents::agents_are_listed_by_name_capability_shard_state_and_kind,
        agents::an_outside_agent_is_registered_shown_and_deregistered,
        agents::agents_are_suspended_resumed_and_drained,
        cluster::the_cluster_is_shown_as_the_node_sees_it,
        messages::a_message_is_accepted_confirmed_or_answered,
        messages::messages_come_and_go_in_the_string_form_too,
        messages::what_cannot_be_sent_is_refused_with_the_reason,
        messages::a_request_with_an_idempotency_key_is_carried_out_once,
        operate::a_conversation_is_shown_while_it_is_open,
        operate::open_conversations_are_listed_page_by_page,
        operate::dead_letters_are_found_replayed_and_purged_and_each_change_is_audited,
        operate::a_dry_run_says_where_a_message_would_go,
        operate::figures_and_events_say_what_happens,
        operate::a_backup_is_made_while_the_router_runs,
        receive::a_long_poll_returns_what_is_there_or_waits_for_it,
        receive::an_outside_agent_sends_and_replies_in_its_own_name,
        receive::unacknowledged_messages_are_handed_out_again_and_then_given_up,
        receive::a_stream_sends_messages_as_they_come_and_ends_with_its_agent,
        receive::a_stream_that_nobody_reads_holds_back_the_senders,
        socket::an_agent_sends_receives_and_acknowledges_on_one_connection,
    ];
    for test in tests {
        test();
    }
    let served = Served::start();
    let document = served.client().get("/openapi.json").expect(200);
    served.stop();
    let occurred = OCCURRED.lock().unwrap_or_else(PoisonError::into_inner);
    let statuses: BTreeSet<u16> = occurred.iter().map(|(_, _, status)| *status).collect();
    for (template, methods) in document["paths"].as_object().expect("there are paths") {
        for (method, operation) in methods.as_object().expect("there are methods") {
            for status in operation["responses"].as_object().expect("there are responses").keys() {
                let status: u16 = status.parse().expect("it is a status");
                let is_request = |known: &(String, String, u16)| {
                    known.0.eq_ignore_ascii_case(method) && fits(template, &known.1) && known.2 == status
                };
                if status < 400 {
                    assert!(occurred.iter().any(is_request), "{method} {template} never has the status {status}");
                } else if status < 500 && status != 408 {
                    // A body that takes too long takes half a minute.
                    assert!(statuses.contains(&status), "the status {status} of {method} {template} never occurs");
                }
            }
        }
    }
}
