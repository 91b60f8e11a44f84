//! The scripts: their text, their hashes, and how they are called.

use std::sync::LazyLock;

use redis::{Arg, Cmd, ErrorKind, RedisError, ServerErrorKind};

/// One script with the prelude before it.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$doc])*
        pub static $name: Script = {
            const TEXT: &str = concat!(include_str!("../lua/prelude.lua"), include_str!(concat!("../lua/", $file)));
            Script { text: TEXT, hash: LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned()) }
        };
    )*};
}

scripts! {
    /// [`super::super::JobQueue::enqueue`].
    ENQUEUE = "enqueue.lua";
    /// [`super::super::JobQueue::claim`].
    CLAIM = "claim.lua";
    /// [`super::super::JobQueue::reclaim`].
    RECLAIM = "reclaim.lua";
    /// [`super::super::JobQueue::renew`].
    RENEW = "renew.lua";
    /// [`super::super::JobQueue::settle`].
    SETTLE = "settle.lua";
    /// [`super::super::JobQueue::retry`].
    RETRY = "retry.lua";
    /// [`super::super::JobQueue::release`].
    RELEASE = "release.lua";
    /// The first step of [`super::super::JobQueue::release_unknown`].
    FENCE = "fence.lua";
    /// Its second.
    RELEASE_UNKNOWN = "release_unknown.lua";
    /// [`super::super::JobQueue::cancel`].
    CANCEL = "cancel.lua";
    /// [`super::super::JobQueue::tend`].
    TEND = "tend.lua";
    /// [`super::super::JobQueue::leave`].
    LEAVE = "leave.lua";
    /// [`super::super::JobBook::job`].
    JOB = "job.lua";
    /// [`super::super::JobBook::entry`].
    ENTRY = "entry.lua";
    /// [`super::super::DeadLetters::requeue`].
    REQUEUE = "requeue.lua";
    /// [`super::super::DeadLetters::drop_dead`].
    DROP_DEAD = "drop_dead.lua";
    /// [`super::super::JobBook::counts`].
    COUNTS = "counts.lua";
    /// [`super::super::Outbox::callbacks`].
    CALLBACKS = "callbacks.lua";
    /// [`super::super::Outbox::callback_done`] and the like.
    CALLBACK = "callback.lua";
    /// [`super::super::Replays::begin`].
    BEGIN = "begin.lua";
    /// [`super::super::Replays::finish`].
    FINISH = "finish.lua";
    /// [`super::super::Labels::keep_answers`].
    KEEP_ANSWERS = "keep_answers.lua";
    /// [`super::super::Labels::kept_answer`].
    KEPT_ANSWER = "kept_answer.lua";
    /// [`super::super::Labels::label`].
    LABEL = "label.lua";
}

impl Script {
    /// What Redis knows the script by.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A call of the script on a task's keys.
    ///
    /// Two keys are named, and neither is ever there. While a cluster moves a slot, a command whose keys are missing is
    /// sent on to the slot's new place, where a script would find some of the task's keys and not others; one of two
    /// missing keys is refused there (TRYAGAIN) until the move is over, before it has changed anything.
    pub(super) fn call(&self, base: &str, add: impl FnOnce(&mut Cmd)) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.hash()).arg(2).arg(base).arg(format!("{base}-"));
        add(&mut command);
        command
    }

    /// The same call with the script's text, which Redis learns by it. Unlike `SCRIPT LOAD` it goes to the one server
    /// of a cluster that needs it, whatever state the others are in.
    pub(super) fn in_full(&self, call: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text);
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        command
    }
}

/// Does Redis not know the script (any more)?
pub(super) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
