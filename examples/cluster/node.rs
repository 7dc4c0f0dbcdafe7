//! A node: a router in the cluster, with two agents.

use std::error::Error;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use caxton_router::cluster::{Cluster, ClusterView, Health, NodeView};
use caxton_router::config::Preset;
use caxton_router::error::AskError;
use caxton_router::message::{MessageBuilder, Reliability};
use caxton_router::{Agent, Config, Context, Inbox, Message, Outcome, Performative, Router};

/// Time limit for everything that the example waits for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time after which a question without a reply is asked again, because it may have been lost with a node.
const ASKS_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Replies to questions.
struct Clerk(String);

impl Agent for Clerk {
    fn handle(&mut self, question: &Message, context: &mut Context<'_>) -> Outcome {
        let reply = format!("{} will look up {}", self.0, question.content().as_text().unwrap_or_default());
        context.answer(question, Performative::Inform, reply).into()
    }
}

struct Node {
    router: Router,
    cluster: Option<Cluster>,
    /// Takes messages for the program itself.
    inbox: Inbox,
}

/// Runs a node, which executes the commands on the standard input until it ends.
pub fn run(number: &str, nats: &str, data: &str) -> Result<(), Box<dyn Error>> {
    let mut config = Config::preset(Preset::Production);
    let settings = [
        ("router.node", number),
        ("router.shards", "1"),
        ("cluster.nats", nats),
        ("cluster.name", "example"),
        ("store.directory", data),
        ("log.level", "off"),
    ];
    for (key, value) in settings {
        config.set(key, value, "this example")?;
    }
    let router = Router::builder().config(config).start()?;
    // From now on, the agents of all nodes reach each other by name.
    let cluster = Some(Cluster::join(&router)?);
    let clerk = format!("clerk-{number}");
    router.blocking().register(clerk.clone(), move || Clerk(clerk.clone()))?;
    let inbox = router.inbox(format!("inbox-{number}")).blocking().open()?;

    let mut node = Node { router, cluster, inbox };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        node.act(verb, rest)?;
        println!("{}", super::DONE);
    }
    Ok(())
}

/// Begins a message from a command's arguments: the receiver's name, and the content.
fn message(words: &str) -> Result<MessageBuilder, Box<dyn Error>> {
    let (agent, content) = words.split_once(' ').ok_or("what to whom?")?;
    Ok(Message::builder(Performative::Inform).receiver(agent).content(content))
}

impl Node {
    fn act(&mut self, verb: &str, rest: &str) -> Result<(), Box<dyn Error>> {
        match verb {
            "wait-for" => self.wait_for(rest.parse()?),
            "ask" => self.ask(rest),
            "send" => self.send(rest),
            "send-durable" => self.send_durable(rest),
            "receive" => self.receive(),
            "wait-for-death-of" => self.wait_for_death_of(rest.parse()?),
            _ => self.stop(),
        }
    }

    /// Waits until this many other nodes are alive.
    fn wait_for(&self, others: usize) -> Result<(), Box<dyn Error>> {
        self.wait_until(|view| view.nodes.iter().filter(|node| node.health == Health::Alive).count() == others)?;
        println!("sees {others} other nodes");
        Ok(())
    }

    /// Waits until another node is seen as dead.
    fn wait_for_death_of(&self, number: u16) -> Result<(), Box<dyn Error>> {
        let is_dead = |node: &NodeView| node.node.into_inner() == number && node.health == Health::Dead;
        self.wait_until(|view| view.nodes.iter().any(is_dead))?;
        println!("sees that node {number} is dead");
        Ok(())
    }

    fn wait_until(&self, condition: impl Fn(&ClusterView) -> bool) -> Result<(), Box<dyn Error>> {
        let cluster = self.cluster.as_ref().ok_or("the node has stopped")?;
        match cluster.wait_until(PATIENCE, condition)? {
            Some(_) => Ok(()),
            None => Err(format!("the cluster is {:?}", cluster.view()).into()),
        }
    }

    /// Asks an agent of any node, and waits for its reply.
    fn ask(&self, words: &str) -> Result<(), Box<dyn Error>> {
        let (agent, question) = words.split_once(' ').ok_or("ask whom what?")?;
        let request = Message::builder(Performative::Request).receiver(agent).content(question).build()?;
        let began = Instant::now();
        let reply = loop {
            match self.router.blocking().ask(request.clone(), ASKS_AGAIN_AFTER) {
                Err(AskError::TimedOut) if began.elapsed() < PATIENCE => println!("asks {agent} again"),
                reply => break reply?,
            }
        };
        println!("{:?} after {:.1?}", reply.content().as_text().unwrap_or_default(), began.elapsed());
        Ok(())
    }

    /// Sends a message.
    fn send(&self, words: &str) -> Result<(), Box<dyn Error>> {
        self.inbox.blocking().send(message(words)?.build()?)?;
        Ok(())
    }

    /// Sends a durable message, and waits until it is on this node's disk.
    fn send_durable(&self, words: &str) -> Result<(), Box<dyn Error>> {
        let durable = message(words)?.reliability(Reliability::Durable).build()?;
        let written = durable.content().as_text().unwrap_or_default().to_owned();
        self.inbox.blocking().send(durable)?;
        println!("has it on disk: {written:?}");
        Ok(())
    }

    /// Waits for a message.
    fn receive(&self) -> Result<(), Box<dyn Error>> {
        let message = self.inbox.blocking().recv_within(PATIENCE)?;
        println!("receives {:?}", message.content().as_text().unwrap_or_default());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        let report = self.router.shutdown(PATIENCE)?;
        if let Some(cluster) = self.cluster.take() {
            cluster.leave();
        }
        println!("has stopped, every message is accounted for: {}", report.balances());
        Ok(())
    }
}
