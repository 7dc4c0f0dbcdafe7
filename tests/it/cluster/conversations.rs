//! Conversations between agents of several nodes, and what the routers tell their agents about messages.

use caxton_router::message::{ConversationId, Performative, Receipt, is_notice};
use caxton_router::{AgentId, Message};

use super::broker::Broker;
use super::fixture::{Node, Pair, assert_nothing_further, inform, meet, receive, receive_text, reply, send};
use crate::common::{bounded, text_of};

/// Messages that violate their protocol are refused.
const ENFORCED: &[(&str, &str)] = &[("protocols.mode", "enforce")];

fn request(to: &str, conversation: &str) -> Message {
    let request = Message::builder(Performative::Request).receiver(to).protocol("fipa-request").content("paint");
    request.conversation(ConversationId::of_text(conversation)).build().expect("it is valid")
}

#[test]
fn a_request_to_another_node_follows_its_protocol() {
    Pair::run_with(ENFORCED, |pair| {
        let (boss, painter) = pair.inboxes("boss", "painter");
        send(&boss, request("painter", "house"));
        let request = receive(&painter);
        assert_eq!((request.performative(), text_of(&request).as_str()), (Performative::Request, "paint"));
        reply(&painter, &request, Performative::Agree, "soon");
        assert_eq!(receive(&boss).performative(), Performative::Agree);
        reply(&painter, &request, Performative::Inform, "done");
        let done = receive(&boss);
        assert_eq!((done.performative(), done.conversation()), (Performative::Inform, request.conversation()));
    });
}

#[test]
fn a_violation_on_another_node_is_refused_there_and_its_sender_is_told() {
    Pair::run_with(ENFORCED, |pair| {
        let (boss, painter) = pair.inboxes("boss", "painter");
        send(&boss, request("painter", "house"));
        let request = receive(&painter);
        // The protocol has no proposal in response to a request.
        reply(&painter, &request, Performative::Propose, "a hundred");
        let told = receive(&painter);
        assert!(is_notice(&told), "{told:?}");
        assert_eq!(told.performative(), Performative::NotUnderstood);
        reply(&painter, &request, Performative::Agree, "well then");
        assert_eq!(receive(&boss).performative(), Performative::Agree);
    });
}

#[test]
fn a_call_for_proposals_goes_to_participants_on_several_nodes() {
    bounded(|| {
        let broker = Broker::start();
        let nodes = [1, 2, 3].map(|number| Node::start_with(number, &broker, ENFORCED));
        meet(&nodes.each_ref());
        let buyer = nodes[0].inbox("buyer");
        let sellers = [(1, "far"), (2, "farther")].map(|(node, name)| nodes[node].inbox(name));
        let call = Message::builder(Performative::Cfp).receivers(["far", "farther"].map(AgentId::of_text));
        let call = call.protocol("fipa-contract-net").conversation(ConversationId::of_text("deal")).content("a house");
        send(&buyer, call.build().expect("it is valid"));
        for seller in &sellers {
            let call = receive(seller);
            assert_eq!(text_of(&call), "a house");
            reply(seller, &call, Performative::Propose, "a hundred");
        }
        let proposals = sellers.each_ref().map(|_| receive(&buyer));
        for proposal in &proposals {
            assert_eq!(proposal.performative(), Performative::Propose);
            reply(&buyer, proposal, Performative::AcceptProposal, "yes");
        }
        for seller in &sellers {
            let accepted = receive(seller);
            assert_eq!(accepted.performative(), Performative::AcceptProposal);
            reply(seller, &accepted, Performative::Inform, "done");
        }
        for _ in &sellers {
            assert_eq!(receive(&buyer).performative(), Performative::Inform);
        }
        nodes.into_iter().for_each(Node::stop);
    });
}

#[test]
fn a_receipt_comes_once_from_where_the_receiver_lives() {
    Pair::run(|pair| {
        let (sender, receiver) = pair.inboxes("sender", "receiver");
        for (receipt, word) in [(Receipt::Delivered, "((delivered "), (Receipt::Processed, "((processed ")] {
            let message = inform("receiver", "hello").into_builder().receipt(receipt);
            send(&sender, message.build().expect("it is valid"));
            assert_eq!(receive_text(&receiver), "hello");
            let told = receive(&sender);
            assert!(is_notice(&told) && text_of(&told).starts_with(word), "{told:?}");
        }
        assert_nothing_further(&sender);
    });
}

#[test]
fn a_failure_on_another_node_reaches_the_sender() {
    Pair::run(|pair| {
        let (sender, receiver) = pair.inboxes("sender", "receiver");
        send(&sender, inform("receiver", "hello"));
        assert_eq!(receive_text(&receiver), "hello");
        drop(receiver);
        send(&sender, inform("receiver", "hello"));
        let told = receive(&sender);
        assert!(is_notice(&told), "{told:?}");
        assert_eq!(told.performative(), Performative::Failure);
    });
}
