//! A node: a router in the cluster, with two agents.

use std::error::Error;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use caxton_router::cluster::{Cluster, Health};
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
    /// Takes letters.
    mail: Inbox,
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
    let mail = router.inbox(format!("mail-{number}")).blocking().open()?;

    let mut node = Node { router, cluster, mail };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        node.act(verb, rest)?;
        println!("{}", super::DONE);
    }
    Ok(())
}

/// Begins a message from a command's arguments: the receiver's name, and the content.
fn letter(words: &str) -> Result<MessageBuilder, Box<dyn Error>> {
    let (agent, letter) = words.split_once(' ').ok_or("what to whom?")?;
    Ok(Message::builder(Performative::Inform).receiver(agent).content(letter))
}

impl Node {
    fn act(&mut self, verb: &str, rest: &str) -> Result<(), Box<dyn Error>> {
        match verb {
            "meet" => self.meet(rest.parse()?),
            "ask" => self.ask(rest),
            "tell" => self.tell(rest),
            "post" => self.post(rest),
            "read" => self.read(),
            "mourn" => self.mourn(rest.parse()?),
            _ => self.stop(),
        }
    }

    /// Waits until this many other nodes are alive.
    fn meet(&self, others: usize) -> Result<(), Box<dyn Error>> {
        let alive = |cluster: &Cluster| {
            cluster.view().nodes.iter().filter(|node| node.health == Health::Alive).count() == others
        };
        self.wait_until(alive)?;
        println!("sees {others} other nodes");
        Ok(())
    }

    /// Waits until another node is seen as dead.
    fn mourn(&self, number: u16) -> Result<(), Box<dyn Error>> {
        let is_dead = |cluster: &Cluster| {
            let nodes = cluster.view().nodes;
            nodes.iter().any(|node| node.node.into_inner() == number && node.health == Health::Dead)
        };
        self.wait_until(is_dead)?;
        println!("sees that node {number} is dead");
        Ok(())
    }

    fn wait_until(&self, is_so: impl Fn(&Cluster) -> bool) -> Result<(), Box<dyn Error>> {
        let (cluster, began) = (self.cluster.as_ref().ok_or("the node has stopped")?, Instant::now());
        while !is_so(cluster) {
            if began.elapsed() > PATIENCE {
                return Err(format!("the cluster is {:?}", cluster.view()).into());
            }
            // A view has to be polled, because nothing reports its changes.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
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

    /// Sends a letter.
    fn tell(&self, words: &str) -> Result<(), Box<dyn Error>> {
        self.mail.blocking().send(letter(words)?.build()?)?;
        Ok(())
    }

    /// Sends a letter that is durable, and waits until it is on this node's disk.
    fn post(&self, words: &str) -> Result<(), Box<dyn Error>> {
        let durable = letter(words)?.reliability(Reliability::Durable).build()?;
        let written = durable.content().as_text().unwrap_or_default().to_owned();
        self.mail.blocking().send(durable)?;
        println!("has it on disk: {written:?}");
        Ok(())
    }

    /// Waits for a letter.
    fn read(&self) -> Result<(), Box<dyn Error>> {
        let letter = self.mail.blocking().recv_within(PATIENCE)?;
        println!("reads {:?}", letter.content().as_text().unwrap_or_default());
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
