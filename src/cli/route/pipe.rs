//! Messages from a pipe, each as soon as it is complete.
//!
//! A thread reads; what it has read waits in a queue of bounded length until the router's side takes it. Only the
//! incomplete message is kept, which is no longer than a message may be.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use caxton_router::Message;
use caxton_router::codec::text::{Limits, Located, Messages, ParseError, Strictness};

use crate::cli::input::now;

/// Number of bytes read at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Maximum number of pieces waiting to be taken.
const PIECES_MAX: usize = 16;
/// A byte that the end of every message contains.
const CLOSING: u8 = b')';

/// A message, or an error.
pub type Read = Result<Located<Message>, ParseError>;

/// Something to be handled.
enum News {
    Piece(Vec<u8>),
    End,
    /// The pipe cannot be read.
    Broken(io::Error),
    /// Something other than the pipe needs attention.
    Call,
}

/// Wakes the thread that waits for a pipe. Never blocks, and wakes once for several reasons.
#[derive(Clone)]
pub struct Bell {
    sender: SyncSender<News>,
    was_rung: Arc<AtomicBool>,
}

impl Bell {
    /// Ends the wait for the pipe, the current one or the next.
    pub fn ring(&self) {
        if !self.was_rung.swap(true, Ordering::AcqRel) {
            // A full queue ends the wait as well.
            if self.sender.try_send(News::Call).is_err() {
                self.was_rung.store(false, Ordering::Release);
            }
        }
    }
}

/// The messages of the standard input.
pub struct Pipe {
    news: Receiver<News>,
    bell: Bell,
    strictness: Strictness,
    /// What was read and not taken yet, from `start` on.
    bytes: Vec<u8>,
    start: usize,
    /// The position of `start` in the whole text.
    line: usize,
    column: usize,
    /// Whether something arrived that may end a message.
    may_be_whole: bool,
    has_ended: bool,
    broken: Option<io::Error>,
    malformed: u64,
}

impl Pipe {
    /// Begins to read the standard input.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub fn open(strictness: Strictness) -> io::Result<Self> {
        let (sender, news) = sync_channel(PIECES_MAX);
        let bell = Bell { sender: sender.clone(), was_rung: Arc::new(AtomicBool::new(false)) };
        std::thread::Builder::new().name("caxton-input".to_owned()).spawn(move || read_pieces(&sender))?;
        Ok(Self::of(news, bell, strictness))
    }

    fn of(news: Receiver<News>, bell: Bell, strictness: Strictness) -> Self {
        Self {
            news,
            bell,
            strictness,
            bytes: Vec::new(),
            start: 0,
            line: 1,
            column: 1,
            may_be_whole: false,
            has_ended: false,
            broken: None,
            malformed: 0,
        }
    }

    /// Returns a bell that ends the wait for the pipe from another thread.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Whether everything was read and taken.
    pub fn has_ended(&self) -> bool {
        self.has_ended && !self.may_be_whole
    }

    /// Returns the number of malformed messages.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Returns why the pipe ended early.
    pub fn broken(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// Returns the next message or error; `None` if none is complete so far.
    pub fn next(&mut self) -> Option<Read> {
        while let Some(news) = self.try_take() {
            self.hear(news);
            if self.bytes.len() - self.start > PIECES_MAX * PIECE_BYTES {
                break;
            }
        }
        if !self.may_be_whole {
            return None;
        }
        let limits = Limits::default().with_strictness(self.strictness);
        let messages = Messages::new(&self.bytes[self.start..], now(), &limits);
        let mut messages = if self.has_ended { messages } else { messages.may_go_on() };
        let Some(read) = messages.next() else {
            self.may_be_whole = false;
            return None;
        };
        let taken = messages.taken();
        let read = match read {
            Ok(mut located) => {
                (located.line, located.column) = self.place(located.line, located.column);
                Ok(located)
            }
            Err(mut error) => {
                (error.line, error.column) = self.place(error.line, error.column);
                self.malformed += 1;
                Err(error)
            }
        };
        self.step_over(taken);
        Some(read)
    }

    /// Waits for news, at most this long.
    pub fn wait(&mut self, longest: Option<Duration>) {
        let news = match longest {
            None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(longest) => self.news.recv_timeout(longest),
        };
        match news {
            Ok(news) => self.hear(news),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.hear(News::End),
        }
    }

    fn try_take(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Piece(piece) => {
                let is_much = self.bytes.len() > Limits::default().message_bytes_max;
                self.may_be_whole |= is_much || piece.contains(&CLOSING);
                self.bytes.extend_from_slice(&piece);
            }
            News::End => {
                self.may_be_whole |= !self.has_ended;
                self.has_ended = true;
            }
            News::Broken(error) => {
                self.broken = Some(error);
                self.hear(News::End);
            }
            News::Call => self.bell.was_rung.store(false, Ordering::Release),
        }
    }

    /// Converts a position in the remaining text to one in the whole.
    fn place(&self, line: usize, column: usize) -> (usize, usize) {
        if line == 1 { (self.line, self.column + column - 1) } else { (self.line + line - 1, column) }
    }

    fn step_over(&mut self, taken: usize) {
        let end = self.start + taken;
        let stepped = &self.bytes[self.start..end];
        let line = match stepped.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => {
                self.line += stepped.split(|byte| *byte == b'\n').count() - 1;
                self.column = 1;
                &stepped[last + 1..]
            }
            None => stepped,
        };
        let characters = line.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        self.column += characters;
        self.start = end;
        // Taken bytes are removed before they outweigh the rest.
        if self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Forwards the standard input, until it ends or nobody takes it any more.
fn read_pieces(sender: &SyncSender<News>) {
    let mut input = io::stdin().lock();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let news = match input.read(&mut piece) {
            Ok(0) => News::End,
            Ok(length) => News::Piece(piece[..length].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => News::Broken(error),
        };
        let is_last = !matches!(news, News::Piece(_));
        if sender.send(news).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(pieces: &[&[u8]], ends: bool) -> Pipe {
        let (sender, news) = sync_channel(pieces.len() + 1);
        let bell = Bell { sender: sender.clone(), was_rung: Arc::new(AtomicBool::new(false)) };
        for piece in pieces {
            sender.send(News::Piece(piece.to_vec())).expect("there is room");
        }
        if ends {
            sender.send(News::End).expect("there is room");
        }
        Pipe::of(news, bell, Strictness::Lenient)
    }

    fn outline(pipe: &mut Pipe) -> Vec<String> {
        let told = |read: Result<Located<Message>, ParseError>| match read {
            Ok(located) => format!("{}:{} {}", located.line, located.column, located.value.performative()),
            Err(error) => format!("{}:{} error", error.line, error.column),
        };
        std::iter::from_fn(|| pipe.next().map(told)).collect()
    }

    #[test]
    fn each_message_comes_when_it_is_whole_whatever_the_pieces_are() {
        let text = "(inform :content \"ä\")(cfp)\n (bad x)\n(request :content \"(\n\")\n  (agree";
        let expected = ["1:1 inform", "1:22 cfp", "2:7 error", "3:1 request"];
        for size in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(outline(&mut pipe(&pieces, false)), expected, "in pieces of {size} bytes");
            let whole = [&expected[..], &["5:9 error"]].concat();
            let mut pipe = pipe(&pieces, true);
            let mut told = outline(&mut pipe);
            assert_eq!(told.pop().map(|last| last.ends_with(" error")), Some(true));
            assert_eq!(told, whole[..4], "in pieces of {size} bytes");
            assert!(pipe.has_ended());
        }
    }

    #[test]
    fn what_is_kept_is_what_is_not_whole() {
        let message = format!("(inform :content \"{}\")", "x".repeat(1_000));
        let mut pipe = pipe(&vec![message.as_bytes(); 100], false);
        assert_eq!(outline(&mut pipe).len(), 100);
        assert!(pipe.bytes.len() <= 2 * message.len(), "{} bytes are kept", pipe.bytes.len());
    }
}
