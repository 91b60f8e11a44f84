//! Labels and beliefs on Redis: answers in generations of a hash, so that their number is bounded without a clock.

use async_trait::async_trait;
use redis::{AsyncCommands, Value};

use super::scripts as lua;
use super::{RedisQueue, to_millis};
use crate::queue::contract::{Belief, Labelled, Labels, NewLabel, QueueError};

/// Parts that a task's kept answers come and go in.
const GENERATIONS: u32 = 8;
/// Most answers of one script: Redis serves nobody else meanwhile.
const MOST: usize = 1_000;

#[async_trait]
impl Labels for RedisQueue {
    async fn keep_answers(&self, task: &str, answers: Vec<(String, String)>) -> Result<(), QueueError> {
        let config = &self.0.config;
        let each = (config.label_records / GENERATIONS).max(1);
        for some in answers.chunks(MOST) {
            let add = |command: &mut redis::Cmd| {
                command.arg(to_millis(config.label_ttl)).arg(each).arg(GENERATIONS);
                for (id, record) in some {
                    command.arg(id).arg(record);
                }
            };
            self.invoke::<Value>(&lua::KEEP_ANSWERS, task, add).await?;
        }
        Ok(())
    }

    async fn kept_answer(&self, task: &str, id: &str) -> Result<Option<String>, QueueError> {
        let add = |command: &mut redis::Cmd| {
            command.arg(id).arg(GENERATIONS);
        };
        self.invoke(&lua::KEPT_ANSWER, task, add).await
    }

    async fn label(&self, task: &str, label: &NewLabel) -> Result<Labelled, QueueError> {
        let NewLabel { answer, remember, version, before, after } = label;
        let add = |command: &mut redis::Cmd| {
            command.arg(answer).arg(to_millis(*remember).max(1)).arg(version).arg(before);
            command.arg(&after.head).arg(&after.tail);
        };
        let told: Vec<String> = self.invoke(&lua::LABEL, task, add).await?;
        match told.as_slice() {
            [word] if word == "counted" => Ok(Labelled::Counted),
            [word] if word == "before" => Ok(Labelled::Before),
            [_, head, tail] => Ok(Labelled::Moved(Belief { head: head.clone(), tail: tail.clone() })),
            _ => Err(super::wire::corrupt("what became of a label")),
        }
    }

    async fn beliefs(&self, task: &str) -> Result<Vec<(String, String)>, QueueError> {
        Ok(self.0.link.get().hgetall(self.key(task, "beliefs")).await?)
    }
}
