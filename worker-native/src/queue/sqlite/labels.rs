//! Labels and beliefs on the file: answers that may be labelled, and the step in which a label counts.

use async_trait::async_trait;
use rusqlite::Row;

use super::books::{Page, all, one, run};
use super::clock::{ms, stored};
use super::{SqliteQueue, sql};
use crate::queue::contract::{Belief, Labelled, Labels, NewLabel, QueueError};

/// Rows looked at for each one that is added: the file cannot grow faster than it is looked after.
const AHEAD: usize = 2;

#[async_trait]
impl Labels for SqliteQueue {
    async fn keep_answers(&self, task: &str, answers: Vec<(String, String)>) -> Result<(), QueueError> {
        self.write(task, answers.len(), move |page| page.keep_answers(&answers)).await
    }

    async fn kept_answer(&self, task: &str, id: &str) -> Result<Option<String>, QueueError> {
        let (task, id) = (task.to_owned(), id.to_owned());
        let since = stored(self.now()).saturating_sub(stored(ms(self.0.config.label_ttl)));
        self.read(move |file| one(file, sql::ANSWERED, (&task, &id, since), |row| row.get(0))).await
    }

    async fn label(&self, task: &str, label: &NewLabel) -> Result<Labelled, QueueError> {
        let label = label.clone();
        self.write(task, 1, move |page| page.label(&label)).await
    }

    async fn beliefs(&self, task: &str) -> Result<Vec<(String, String)>, QueueError> {
        let task = task.to_owned();
        self.read(move |file| all(file, sql::BELIEFS, [&task], |row| Ok((row.get(0)?, row.get(1)?)))).await
    }
}

impl Page<'_> {
    fn keep_answers(&mut self, answers: &[(String, String)]) -> rusqlite::Result<()> {
        for (id, record) in answers {
            run(self.file, sql::ANSWERED_NEW, (self.task.id, id, self.now, record))?;
        }
        self.sweep_answers(stored((answers.len() * AHEAD) as u64)).map(drop)
    }

    fn label(&mut self, label: &NewLabel) -> rusqlite::Result<Labelled> {
        let NewLabel { answer, remember, version, before, after } = label;
        if one(self.file, sql::LABELLED, (self.task.id, answer, self.now), |_| Ok(()))?.is_some() {
            return Ok(Labelled::Before);
        }
        let read = |row: &Row<'_>| Ok(Belief { head: row.get(0)?, tail: row.get(1)? });
        let now = one(self.file, sql::BELIEF, (self.task.id, version), read)?.unwrap_or_default();
        if now.head != *before {
            return Ok(Labelled::Moved(now));
        }
        let expires = self.now.saturating_add(stored(ms(*remember)));
        run(self.file, sql::LABELLED_NEW, (self.task.id, answer, expires))?;
        run(self.file, sql::BELIEF_WRITE, (self.task.id, version, &after.head, &after.tail))?;
        self.sweep_labels(2)?;
        Ok(Labelled::Counted)
    }

    /// Removes so many answers that expired or are too many; how many those were. The bound is the file's, with all
    /// tasks together: one task alone never has more than its own.
    pub(super) fn sweep_answers(&self, limit: i64) -> rusqlite::Result<usize> {
        let since = self.ago(self.config.label_ttl);
        let last: i64 = one(self.file, sql::ANSWERED_LAST, [], |row| row.get(0))?.unwrap_or(0);
        let first_kept = last.saturating_sub(i64::from(self.config.label_records)).saturating_add(1);
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        let oldest = all(self.file, sql::ANSWERED_OLDEST, [limit], read)?;
        let gone = oldest.iter().take_while(|(seq, at)| *seq < first_kept || *at <= since);
        match gone.last() {
            Some((seq, _)) => run(self.file, sql::ANSWERED_DROP, [seq]),
            None => Ok(0),
        }
    }

    /// Forgets so many labels whose answers nothing can find any more.
    pub(super) fn sweep_labels(&self, limit: i64) -> rusqlite::Result<usize> {
        run(self.file, sql::LABELLED_EXPIRED, (self.now, limit))
    }
}
