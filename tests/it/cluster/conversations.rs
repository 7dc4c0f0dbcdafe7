//! Conversations between agents of several nodes, and what the routers tell their agents about messages.

use std::time::Duration;

use caxton_router::message::{ConversationId, Performative, Receipt, is_notice};
use caxton_router::{AgentId, Config, Inbox, Message};

use super::broker::Broker;
use super::nodes::{Node, meet};
use crate::common::{PATIENCE, bounded, text_of};

/// Time in which nothing further comes.
const NOTHING_FURTHER: Duration = Duration::from_millis(100);

fn enforced(config: &mut Config) {
    config.set("protocols.mode", "enforce", "the test").expect("it is legal");
}

fn receive(inbox: &Inbox) -> Message {
    inbox.blocking().recv_within(PATIENCE).expect("it comes")
}

fn send(inbox: &Inbox, message: Message) {
    inbox.blocking().send(message).expect("it is accepted");
}

fn reply(inbox: &Inbox, to: &Message, act: Performative, content: &str) {
    send(inbox, to.reply(act).content(content).build().expect("it is valid"));
}

fn request(to: &str, conversation: &str) -> Message {
    let request = Message::builder(Performative::Request).receiver(to).protocol("fipa-request").content("paint");
    request.conversation(ConversationId::of_text(conversation)).build().expect("it is valid")
}

#[test]
fn a_request_to_another_node_follows_its_protocol() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start_with(1, &broker, enforced), Node::start_with(2, &broker, enforced));
        let (boss, painter) = (one.inbox("boss"), two.inbox("painter"));
        send(&boss, request("painter", "house"));
        let request = receive(&painter);
        assert_eq!((request.performative(), text_of(&request).as_str()), (Performative::Request, "paint"));
        reply(&painter, &request, Performative::Agree, "soon");
        assert_eq!(receive(&boss).performative(), Performative::Agree);
        reply(&painter, &request, Performative::Inform, "done");
        let done = receive(&boss);
        assert_eq!((done.performative(), done.conversation()), (Performative::Inform, request.conversation()));
        one.stop();
        two.stop();
    });
}

#[test]
fn a_violation_on_another_node_is_refused_there_and_its_sender_is_told() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start_with(1, &broker, enforced), Node::start_with(2, &broker, enforced));
        let (boss, painter) = (one.inbox("boss"), two.inbox("painter"));
        send(&boss, request("painter", "house"));
        let request = receive(&painter);
        // A request is not answered by a proposal.
        reply(&painter, &request, Performative::Propose, "a hundred");
        let told = receive(&painter);
        assert!(is_notice(&told), "{told:?}");
        assert_eq!(told.performative(), Performative::NotUnderstood);
        reply(&painter, &request, Performative::Agree, "well then");
        assert_eq!(receive(&boss).performative(), Performative::Agree);
        one.stop();
        two.stop();
    });
}

#[test]
fn a_call_for_proposals_goes_to_participants_on_several_nodes() {
    bounded(|| {
        let broker = Broker::start();
        let nodes = [1, 2, 3].map(|number| Node::start_with(number, &broker, enforced));
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
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        let (sender, receiver) = (one.inbox("sender"), two.inbox("receiver"));
        for receipt in [Receipt::Delivered, Receipt::Processed] {
            let message = Message::builder(Performative::Inform).receiver("receiver").content("hello").receipt(receipt);
            send(&sender, message.build().expect("it is valid"));
            assert_eq!(text_of(&receive(&receiver)), "hello");
            let told = receive(&sender);
            let word = if receipt == Receipt::Delivered { "((delivered " } else { "((processed " };
            assert!(is_notice(&told) && text_of(&told).starts_with(word), "{told:?}");
        }
        assert!(sender.blocking().recv_within(NOTHING_FURTHER).is_err(), "it comes once");
        one.stop();
        two.stop();
    });
}

#[test]
fn a_failure_on_another_node_reaches_the_sender() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        let (sender, receiver) = (one.inbox("sender"), two.inbox("receiver"));
        let hello = || Message::builder(Performative::Inform).receiver("receiver").content("hello").build();
        send(&sender, hello().expect("it is valid"));
        assert_eq!(text_of(&receive(&receiver)), "hello");
        drop(receiver);
        send(&sender, hello().expect("it is valid"));
        let told = receive(&sender);
        assert!(is_notice(&told), "{told:?}");
        assert_eq!(told.performative(), Performative::Failure);
        one.stop();
        two.stop();
    });
}
