//! The kinds of faults in a run.

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// A kind of fault or stress. Each can be disabled.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Fault {
            $($(#[$doc])* $variant,)+
        }

        impl Fault {
            /// All kinds.
            pub const ALL: [Fault; [$($name),+].len()] = [$(Fault::$variant),+];

            /// Returns the kind as one word, for command lines.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)+ }
            }
        }
    };
}

faults! {
    /// Handlers fail.
    Failing = "failing";
    /// Handlers, factories, polls and the like panic.
    Panics = "panics";
    /// Handlers are suspended and resumed.
    Suspended = "suspended";
    /// Time passes while a handler runs.
    Slow = "slow";
    /// Rings, mailboxes, outboxes and tables are tiny.
    Limits = "limits";
    /// Full mailboxes block their senders or drop the oldest message; the memory budget is small.
    Overflow = "overflow";
    /// Shards are not stepped for a while.
    Pauses = "pauses";
    /// Turns of several shards overlap: each sees the effects of the others before those ring any doorbell.
    Overlap = "overlap";
    /// Monotonic time jumps forwards; wall-clock time jumps forwards and backwards.
    Clock = "clock";
    /// Agents are registered and deregistered while messages for them are in flight.
    Membership = "membership";
    /// Agents are suspended, resumed and drained.
    Lifecycle = "lifecycle";
    /// Agents live outside, and their inboxes are read slowly and dropped.
    Inboxes = "inboxes";
    /// Messages are durable and their commits are late.
    Durable = "durable";
    /// Messages have short lifetimes and delayed delivery.
    Deadlines = "deadlines";
    /// Messages name receivers and senders that do not exist.
    Strangers = "strangers";
    /// Agents converse by a protocol, and violate it.
    Protocols = "protocols";
    /// The router drains or stops at any moment.
    Shutdown = "shutdown";
}

impl Fault {
    /// Returns the kind with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(Fault::of_name(fault.name()), Some(fault));
        }
        assert_eq!(Fault::of_name("weather"), None);
    }
}
