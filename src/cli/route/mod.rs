//! `caxton route`: routes a file of ACL messages through its own router and reports the outcome of each.
//!
//! A file is read twice: first for the names of all agents, which are registered, then message by message, in order.
//! From the standard input each message is routed as it arrives, after registering its agents ([`pipe`]). No outcome is
//! guessed: agents record what they handle, the router reports what it gives up, and every delivery is waited for until
//! one of the two has happened ([`journal`]).
//!
//! Exit status: 0 if every message was read and processed, or there is none; 1 if a message was malformed or refused,
//! or if it or a reply to it was not processed; 2 if the arguments or the file cannot be used. After SIGTERM or SIGINT
//! nothing more is sent, what is in flight is drained, and what was not sent does not count.

mod agents;
mod conformance;
mod exchange;
mod journal;
mod management;
mod pipe;
mod report;
mod summary;
mod traces;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use caxton_router::config::Preset;
use caxton_router::doctor::SHARDS;
use caxton_router::domain::{AgentName, CapabilityName, GuestCallMs, ShardCount};
use caxton_router::error::StartError;
use caxton_router::message::WallTime;
use caxton_router::protocol::Mode;
use caxton_router::store::directory::prepare_directory;
use caxton_router::wasm::{GuestStates, Manifest, OnFailure, Plugin, STATES_FILE, Sandbox};
use caxton_router::{AgentId, Config, Message, Performative, Router};
use clap::Args;

use self::agents::{Cast, Habits};
use self::exchange::{Exchange, Manner};
use self::pipe::{Pipe, Read};
use self::report::Printer;
use self::summary::Summary;
use self::traces::{TraceSink, Traces};
use super::input::{Source, is_standard_input, now};
use super::interrupt::{self, Interrupt};
use super::log::{self, LogOption};
use super::settings::{self, MetricsOption, Settings};
use super::{complain, fail, printing_failed, refuse};

/// Limits of `--timeout`, in seconds.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=86_400.0;
/// Minimum similarity of a suggested word, from 0 to 1.
const SUGGESTION_LIKENESS_MIN: f64 = 0.6;

/// Arguments of `caxton route`.
#[derive(Debug, Args)]
#[command(after_help = "\
Queues and budgets of which the settings say nothing are made large enough for any file. \
Every agent that a message names is registered. Those that get a message which expects an answer (request, \
request-when, request-whenever, query-if, query-ref, cfp, subscribe, propose, proxy, cancel) answer with an inform of \
the same content. An agent named ams@ or df@ and a platform answers as agent management does (FIPA SC00023), unless \
--reply says otherwise. Answers themselves are never answered. A message without a sender is anonymous: it is sent in the \
name of the router's gateway and gets no answer, unless it names agents in reply-to.

Exit status: 0 if all messages were read and processed, also if there are none; 1 if one was malformed, refused, \
dead-lettered, expired or left pending, or an answer was; 2 if the arguments or the file cannot be used. After SIGTERM \
or SIGINT what is under way is drained, and the rest of the file, which is not sent, does not count.")]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of its own.
pub struct RouteArguments {
    /// The file with the messages, in the string form of FIPA SC00070; - is the standard input, whose messages are
    /// routed as they arrive
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Send each message only after all earlier ones have settled, which keeps the file's order across conversations
    #[arg(long)]
    in_order: bool,
    /// Number of shards; by default as in the settings
    #[arg(long)]
    shards: Option<ShardCount>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: LogOption,
    #[command(flatten)]
    metrics: MetricsOption,
    /// Make this agent reply with another performative, such as refuse; may be repeated
    #[arg(long, value_name = "NAME=PERFORMATIVE", value_parser = parse_reply)]
    reply: Vec<(AgentName, Performative)>,
    /// Make this agent provide a capability, for messages with X-caxton-capability; may be repeated
    #[arg(long, value_name = "NAME=CAPABILITY", value_parser = parse_offer)]
    offer: Vec<(AgentName, CapabilityName)>,
    /// Check conversations against their protocols: off, observe (report violations) or enforce (refuse violating
    /// messages); by default observe with --report, else off
    #[arg(long, value_name = "MODE")]
    protocols: Option<Mode>,
    /// A file that defines further protocols; may be repeated
    #[arg(long, value_name = "FILE")]
    protocol_file: Vec<PathBuf>,
    /// End with a report of every protocol violation
    #[arg(long)]
    report: bool,
    /// Make no agent reply, except those of --reply
    #[arg(long)]
    no_echo: bool,
    /// Make this agent a WebAssembly module; may be repeated. A manifest beside the module is read too, such as
    /// echo.toml for echo.wasm, and the agent's log goes to standard error; with --log, what LEVEL lets pass
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_agent)]
    agent: Vec<(AgentName, PathBuf)>,
    /// Pass every message to this WebAssembly routing plugin before it is accepted, after the plugins named earlier;
    /// may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_plugin)]
    plugin: Vec<(String, PathBuf)>,
    /// Let messages pass on which a plugin fails, instead of refusing them
    #[arg(long, requires = "plugin")]
    plugins_fail_open: bool,
    /// Time limit of a plugin per message, in milliseconds
    #[arg(long, value_name = "MS", default_value = "10", requires = "plugin")]
    plugin_call_ms: GuestCallMs,
    /// Seconds to wait without progress before the rest is reported as pending
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_timeout)]
    timeout: Duration,
    /// Seconds for draining after SIGTERM or SIGINT; by default as in the settings
    #[arg(long, value_name = "SECONDS", value_parser = interrupt::parse_timeout)]
    shutdown_timeout: Option<Duration>,
    /// Keep durable messages, those with X-caxton-reliability durable, the state of guests and their compiled modules
    /// in this data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End with the trace of each conversation, as a tree of its messages: where each spent its time
    #[arg(long)]
    trace: bool,
    /// Print one JSON object per line for each message, and one with the summary
    #[arg(long)]
    json: bool,
}

/// Runs `caxton route`.
pub fn run(arguments: &RouteArguments) -> ExitCode {
    let prepared = arguments.habits().and_then(|habits| {
        let mut config = arguments.config()?;
        let log = arguments.log.begin(&mut config)?;
        let source = if is_standard_input(&arguments.file) { None } else { Some(Source::read(&arguments.file)?) };
        Ok((habits, config, source, log))
    });
    let (habits, config, source, _log) = match prepared {
        Ok(prepared) => prepared,
        Err(complaint) => return refuse(&complaint),
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(complaint) => return fail(&complaint),
    };
    let mut printer = Printer::new(arguments.json, &arguments.file.display().to_string());
    let (sink, traces) = Traces::begin();
    let sink = arguments.trace.then_some(sink);
    let routed = match &source {
        Some(source) => arguments.route(source, config, habits, sink, &mut printer, &interrupt),
        None => arguments.route_pipe(config, habits, sink, &mut printer, &interrupt),
    };
    match routed {
        Ok(summary) => match printer.traces(&traces.take()).and_then(|()| printer.summary(&summary)) {
            Ok(()) if summary.is_well() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => printing_failed(&error),
        },
        Err(Stop::Printing(error)) => printing_failed(&error),
        Err(Stop::Arguments(complaint)) => refuse(&complaint),
        Err(Stop::Router(complaint)) => fail(&complaint),
    }
}

/// Options under their former names, without the router's prefix. A file of `caxton route` is written for the router,
/// so these are its options; see [`Message::take_unprefixed_options`].
#[derive(Default)]
struct Unprefixed(BTreeSet<&'static str>);

impl Unprefixed {
    /// Applies the options of a message, and reports each kind once.
    fn take(&mut self, message: &mut Message, now: WallTime) {
        for name in message.take_unprefixed_options(now) {
            if self.0.insert(name) {
                let old = name.replacen("-caxton", "", 1);
                complain(&format!(
                    "the parameter {old} is taken for {name}: write it so, because {old} may be another's"
                ));
            }
        }
    }
}

/// Returns the input up to its first message, except for what was already reported; `None` if no message arrives.
/// Malformed input is reported when nothing else is available.
fn await_message(pipe: &mut Pipe, printer: &mut Printer, interrupt: &Interrupt) -> Result<Option<Vec<Read>>, Stop> {
    let mut untold = Vec::new();
    loop {
        let next = pipe.next();
        let is_idle = next.is_none();
        let is_message = matches!(next, Some(Ok(_)));
        untold.extend(next);
        if is_message {
            return Ok(Some(untold));
        }
        if is_idle || untold.len() >= exchange::DELIVERIES_MAX {
            for error in untold.drain(..).filter_map(Result::err) {
                printer.malformed(&error)?;
            }
            printer.flush()?;
        }
        if is_idle {
            if pipe.has_ended() || interrupt.signal().is_some() {
                return Ok(None);
            }
            pipe.wait(None);
        }
    }
}

fn unreadable(error: &std::io::Error) -> Stop {
    Stop::Arguments(format!("-: cannot read: {error}"))
}

/// Why a file was not routed to its end.
enum Stop {
    /// The outcome of a message could not be printed.
    Printing(std::io::Error),
    /// A guest or a plugin cannot be used.
    Arguments(String),
    /// The router did not start, or stopped.
    Router(String),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Printing(error)
    }
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        if error.is_of_settings() { Self::Arguments(error.to_string()) } else { Self::Router(error.to_string()) }
    }
}

impl RouteArguments {
    /// Returns the agents' replies.
    fn habits(&self) -> Result<Habits, String> {
        let mut own = HashMap::new();
        for (name, performative) in &self.reply {
            if own.insert(AgentId::of(name), *performative).is_some() {
                return Err(format!("--reply is given twice for {name}: an agent has one answer"));
            }
        }
        Ok(Habits { usual: (!self.no_echo).then_some(Performative::Inform), own })
    }

    fn route(
        &self,
        source: &Source,
        config: Config,
        habits: Habits,
        traces: Option<TraceSink>,
        printer: &mut Printer,
        interrupt: &Interrupt,
    ) -> Result<Summary, Stop> {
        let strictness = config.message.reading;
        let mut cast = Cast::named_in(source, strictness, &self.offer);
        self.complain_of_strangers(|name| cast.has(name));
        let started = Instant::now();
        if !cast.has_messages() {
            // Without a message to route no router is needed, but malformed ones are reported.
            let mut summary = Summary::default();
            for error in source.messages(strictness).filter_map(Result::err) {
                summary.malformed += 1;
                printer.malformed(&error)?;
            }
            summary.seconds = started.elapsed().as_secs_f64();
            return Ok(summary);
        }
        let sandbox = self.play(&config, &mut cast).map_err(Stop::Arguments)?;
        let (router, shutdown) = self.start(config, traces, interrupt)?;
        let _watch = interrupt.watch(&router, shutdown, || {});
        let manner = Manner { reports: self.report, in_order: self.in_order, bell: None };
        let mut exchange = match self.begin(&router, cast, habits, manner, (interrupt, shutdown))? {
            Ok(exchange) => exchange,
            Err(summary) => return Ok(summary),
        };
        let mut unprefixed = Unprefixed::default();
        for message in source.messages(strictness) {
            if interrupt.signal().is_some() {
                break;
            }
            match message {
                Ok(mut message) => {
                    unprefixed.take(&mut message.value, source.read_at);
                    exchange.send(message, printer)?;
                }
                Err(error) => exchange.malformed(error, printer)?,
            }
            print_log(sandbox.as_ref(), &self.agent);
        }
        let mut summary = exchange.end(interrupt, printer)?;
        print_log(sandbox.as_ref(), &self.agent);
        summary.seconds = started.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// Routes the standard input, each message as soon as it is complete.
    fn route_pipe(
        &self,
        config: Config,
        habits: Habits,
        traces: Option<TraceSink>,
        printer: &mut Printer,
        interrupt: &Interrupt,
    ) -> Result<Summary, Stop> {
        let started = Instant::now();
        let pipe = Pipe::open(config.message.reading);
        let mut pipe = pipe.map_err(|error| Stop::Router(format!("a thread could not be started: {error}")))?;
        let bell = pipe.bell();
        interrupt.call(move || bell.ring());
        let Some(begun) = await_message(&mut pipe, printer, interrupt)? else {
            // Without a message to route no router is needed.
            if let Some(error) = pipe.broken() {
                return Err(unreadable(error));
            }
            self.complain_of_strangers(|_| false);
            let mut summary = Summary::default();
            summary.malformed = pipe.malformed();
            summary.seconds = started.elapsed().as_secs_f64();
            return Ok(summary);
        };
        let mut cast = Cast::offering(&self.offer);
        let sandbox = self.play(&config, &mut cast).map_err(Stop::Arguments)?;
        let (router, shutdown) = self.start(config, traces, interrupt)?;
        let _watch = interrupt.watch(&router, shutdown, || {});
        let manner = Manner { reports: self.report, in_order: self.in_order, bell: Some(pipe.bell()) };
        let mut exchange = match self.begin(&router, cast, habits, manner, (interrupt, shutdown))? {
            Ok(exchange) => exchange,
            Err(summary) => return Ok(summary),
        };
        exchange.count_malformed(pipe.malformed() - begun.iter().filter(|read| read.is_err()).count() as u64);
        let mut unprefixed = Unprefixed::default();
        let mut begun = begun.into_iter();
        while interrupt.signal().is_none() {
            match begun.next().or_else(|| pipe.next()) {
                Some(Ok(mut message)) => {
                    unprefixed.take(&mut message.value, now());
                    exchange.introduce(&message.value);
                    exchange.send(message, printer)?;
                }
                Some(Err(error)) => exchange.malformed(error, printer)?,
                None if pipe.has_ended() => break,
                None => {
                    exchange.tell_settled(printer)?;
                    print_log(sandbox.as_ref(), &self.agent);
                    pipe.wait(exchange.time_left());
                }
            }
        }
        self.complain_of_strangers(|name| exchange.knows(name));
        let mut summary = exchange.end(interrupt, printer)?;
        print_log(sandbox.as_ref(), &self.agent);
        summary.seconds = started.elapsed().as_secs_f64();
        match pipe.broken() {
            Some(error) => Err(unreadable(error)),
            None => Ok(summary),
        }
    }

    /// Reports options for unknown agents.
    fn complain_of_strangers(&self, is_known: impl Fn(&AgentName) -> bool) {
        for (name, _) in self.reply.iter().filter(|(name, _)| !is_known(name)) {
            complain(&format!("--reply {name}: no message names this agent"));
        }
    }

    /// Starts the router. Also returns its shutdown deadline.
    fn start(
        &self,
        config: Config,
        traces: Option<TraceSink>,
        interrupt: &Interrupt,
    ) -> Result<(Router, Duration), Stop> {
        let mut builder = Router::builder();
        for plugin in self.plugins(&config).map_err(Stop::Arguments)? {
            builder = builder.plugin(plugin);
        }
        if config.store.directory.path().is_some() {
            builder = builder.cancelled_by(interrupt.cancel_start());
        }
        if let Some(traces) = traces {
            builder = builder.traces_to(traces);
        }
        let router = builder.config(config).start()?;
        settings::tell_metrics_address(&router);
        for warning in router.host_warnings().iter().filter(|warning| warning.name == SHARDS) {
            complain(&format!("warning: {warning}"));
        }
        for warning in router.recovered().unwrap_or_default().warnings {
            complain(&warning);
        }
        let shutdown = self.shutdown_timeout.unwrap_or(router.config().shutdown.deadline_ms.as_duration());
        Ok((router, shutdown))
    }

    /// Begins the exchange; or ends it, if a signal stopped the router meanwhile.
    fn begin(
        &self,
        router: &Router,
        cast: Cast,
        habits: Habits,
        manner: Manner,
        (interrupt, shutdown): (&Interrupt, Duration),
    ) -> Result<Result<Exchange, Summary>, Stop> {
        match Exchange::begin(router.clone(), cast, habits, self.timeout, manner) {
            Ok(exchange) => Ok(Ok(exchange)),
            Err(_) if interrupt.signal().is_some() => {
                let mut summary = Summary::of_router(router.shard_count());
                let report = router.shutdown(shutdown).map_err(|error| Stop::Router(error.to_string()))?;
                summary.close(&report, interrupt.signal());
                Ok(Err(summary))
            }
            Err(error) => Err(Stop::Router(error)),
        }
    }

    fn plugins(&self, config: &Config) -> Result<Vec<Plugin>, String> {
        if self.plugin.is_empty() {
            return Ok(Vec::new());
        }
        let sandbox = Sandbox::start(&config.wasm).map_err(|error| error.to_string())?;
        let on_failure = if self.plugins_fail_open { OnFailure::Pass } else { OnFailure::Refuse };
        let load = |(name, file): &(String, PathBuf)| {
            Plugin::load_file(&sandbox, name, file, self.plugin_call_ms, on_failure).map_err(|error| error.to_string())
        };
        self.plugin.iter().map(load).collect()
    }

    /// Loads the guests.
    fn play(&self, config: &Config, cast: &mut Cast) -> Result<Option<Sandbox>, String> {
        if self.agent.is_empty() {
            return Ok(None);
        }
        let sandbox = Sandbox::start(&config.wasm).map_err(|error| error.to_string())?;
        let states = match config.store.directory.path() {
            Some(directory) => {
                // Nothing is created in a directory that the router is going to refuse.
                prepare_directory(directory).map_err(|error| error.to_string())?;
                Some(GuestStates::open(&directory.join(STATES_FILE)).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        for (name, file) in &self.agent {
            if cast.is_played(name) {
                return Err(format!("--agent is given twice for {name}: an agent has one module"));
            }
            if self.reply.iter().any(|(other, _)| other == name) {
                return Err(format!("--agent and --reply are both given for {name}: its module says what it answers"));
            }
            if !cast.has(name) && !is_standard_input(&self.file) {
                complain(&format!("--agent {name}: no message names this agent"));
            }
            let manifest = Manifest::beside(file).map_err(|error| error.to_string())?;
            let guest = sandbox.load_file_with(file, &manifest).map_err(|error| error.to_string())?;
            let guest = match &states {
                Some(states) => guest.remembering(states),
                None => guest,
            };
            cast.play(name, guest, manifest.offers.clone());
        }
        Ok(Some(sandbox))
    }

    /// Returns the settings, with room for everything in flight unless limits were set.
    fn config(&self) -> Result<Config, String> {
        let mut config = self.settings.load(Preset::Development)?;
        self.metrics.apply(&mut config);
        // Those named in the file are registered with the other agents.
        config.management.enabled = false;
        for (key, value) in ROOM.into_iter().filter(|(key, _)| settings::is_unsaid(&config, key)).collect::<Vec<_>>() {
            config.set(key, value, "caxton route").expect("a test sets every one of these values");
        }
        if self.trace {
            Traces::configure(&mut config);
        }
        if let Some(shards) = self.shards {
            config.router.shards = caxton_router::config::ShardChoice::Exactly(shards);
        }
        let unsaid = settings::is_unsaid(&config, "protocols.mode");
        let usual = unsaid.then_some(if self.report { Mode::Observe } else { Mode::Off });
        if let Some(mode) = self.protocols.or(usual) {
            config.protocols.mode = mode;
        }
        if !self.protocol_file.is_empty() {
            let files: Vec<_> = self.protocol_file.iter().map(|file| file.display().to_string()).collect();
            config.set("protocols.files", &files.join(","), "--protocol-file").map_err(|error| error.to_string())?;
        }
        if let Some(directory) = &self.data {
            config.store.directory = directory.clone().into();
        }
        settings::keep_compiled_modules(&mut config);
        Ok(config)
    }
}

/// Settings that keep a message from being lost only because a file has many. What is in flight is bounded by
/// [`exchange::DELIVERIES_MAX`] and [`exchange::BYTES_MAX`] instead.
const ROOM: [(&str, &str); 10] = [
    ("channel.capacity", "100000"),
    ("mailbox.messages", "100000"),
    ("mailbox.bytes", "4 GiB"),
    ("delivery.outbox", "100000"),
    // Parts shared by several deliveries of a message are counted for each.
    ("memory.budget", "64 GiB"),
    ("conversation.participants_max", "10000"),
    ("conversation.open_max", "100000000"),
    // Not used here.
    ("conversation.history", "0"),
    ("dead_letters.messages", "1000000"),
    ("dead_letters.bytes", "1 GiB"),
];

fn parse_reply(text: &str) -> Result<(AgentName, Performative), String> {
    let (name, word) = text.rsplit_once('=').ok_or("expected NAME=PERFORMATIVE, such as seller=refuse")?;
    let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
    match Performative::standard(word) {
        Some(performative) => Ok((name, performative)),
        None => Err(unknown_performative(word)),
    }
}

fn unknown_performative(word: &str) -> String {
    let likeness = |act: &Performative| strsim::normalized_damerau_levenshtein(&word.to_lowercase(), act.as_str());
    let nearest = Performative::STANDARD.into_iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let hint = nearest.filter(|act| likeness(act) >= SUGGESTION_LIKENESS_MIN);
    let hint = hint.map_or_else(String::new, |act| format!("; did you mean {act}?"));
    let known: Vec<&str> = Performative::STANDARD.iter().map(|act| act.as_str()).collect();
    format!("\"{}\" is not a performative of FIPA SC00037{hint} Expected {}", word.escape_debug(), known.join(", "))
}

/// Prints the guests' log.
fn print_log(sandbox: Option<&Sandbox>, agents: &[(AgentName, PathBuf)]) {
    let Some(sandbox) = sandbox else { return };
    while let Some(line) = sandbox.next_log_line() {
        if log::is_written() {
            continue;
        }
        let name = agents.iter().find(|(name, _)| AgentId::of(name) == line.agent);
        let name = name.map_or_else(|| line.agent.to_string(), |(name, _)| name.to_string());
        let fields = line.fields.iter().fold(String::new(), |text, (name, value)| text + " " + name + "=" + value);
        complain(&format!("{name}: {}: {}{}", line.level, line.text.escape_debug(), fields.escape_debug()));
    }
}

fn parse_agent(text: &str) -> Result<(AgentName, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE, such as seller=seller.wasm")?;
    let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
    Ok((name, PathBuf::from(file)))
}

fn parse_plugin(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() => Ok((name.to_owned(), PathBuf::from(file))),
        _ => Err("expected NAME=FILE, such as gatekeeper=gatekeeper.wasm".to_owned()),
    }
}

fn parse_offer(text: &str) -> Result<(AgentName, CapabilityName), String> {
    let (name, capability) = text.rsplit_once('=').ok_or("expected NAME=CAPABILITY, such as seller=quotes")?;
    let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
    let capability = CapabilityName::try_new(capability).map_err(|error| error.to_string())?;
    Ok((name, capability))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if TIMEOUT_SECONDS.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected {} to {} seconds", TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_makes_room_is_allowed() {
        for (key, value) in ROOM {
            Config::default().set(key, value, "test").expect(key);
        }
    }

    #[test]
    fn replies_are_read_by_name_and_performative() {
        let (name, performative) = parse_reply("a=b=Refuse").expect("a name may have an equals sign");
        assert_eq!((name.to_string().as_str(), performative), ("a=b", Performative::Refuse));
        for (text, complaint) in [
            ("seller", "NAME=PERFORMATIVE"),
            ("=refuse", "agent name"),
            ("two words =refuse", "agent name"),
            ("seller=refsue", "did you mean refuse?"),
            ("seller=", "Expected accept-proposal, agree,"),
        ] {
            let error = parse_reply(text).expect_err(text);
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn offers_and_timeouts_are_checked() {
        assert!(parse_offer("seller=quotes").is_ok());
        for text in ["seller", "seller=", "=quotes", "seller=two words"] {
            assert!(parse_offer(text).is_err(), "{text}");
        }
        assert_eq!(parse_timeout("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "soon", "86401"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
