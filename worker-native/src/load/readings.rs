//! The file's groups as bodies ready to send, each with the truth it is compared with.
//!
//! Owns the envelope around `sensor_data` (task, sensor, model, deadline), how often the file is
//! replayed, and how many readings that makes. Streams: no body is kept after it was handed over.

use anyhow::{Context, Result, bail};
use shared::catalog::CatalogTask;

use super::answer::Answer;
use super::args::LoadArgs;
use super::labels::{Label, Labels};
use super::mapping::{Mapping, quoted};
use super::source::{Group, Table};

/// Everything that turns a file into readings.
#[derive(Debug)]
pub(super) struct Readings {
    table: Table,
    group_by: Option<usize>,
    mapping: Mapping,
    labels: Option<Labels>,
    envelope: Envelope,
    limit: usize,
    repeat: usize,
}

/// What all readings of a run share around their values.
#[derive(Debug)]
struct Envelope {
    /// JSON up to the sensor's number.
    head: String,
    /// JSON between the sensor's number and the values.
    middle: String,
    sensors: u64,
}

impl Readings {
    /// The readings of a file whose columns and labels were checked.
    pub(super) fn new(
        args: &LoadArgs,
        table: Table,
        group_by: Option<usize>,
        mapping: Mapping,
        labels: Option<Labels>,
        task: &CatalogTask,
    ) -> Self {
        Self {
            table,
            group_by,
            mapping,
            labels,
            envelope: Envelope::new(args, &task.schema.name),
            limit: args.limit.map_or(usize::MAX, saturate),
            repeat: saturate(args.repeat),
        }
    }

    /// How many readings there are; reads the file to its end, so that a broken one is told before sending.
    ///
    /// # Errors
    /// When the file cannot be read to its end, or has no rows.
    pub(super) fn count(&self) -> Result<u64> {
        let mut once = 0_u64;
        for group in self.table.groups(self.group_by)?.take(self.limit) {
            group?;
            once += 1;
        }
        if once == 0 {
            bail!("the CSV has a header and no rows");
        }
        let repeat = u64::try_from(self.repeat).unwrap_or(u64::MAX);
        once.checked_mul(repeat).context("--repeat: more readings than can be counted")
    }

    /// Each reading's body and the beginning of its answer, in the file's order, as often as asked.
    ///
    /// # Errors
    /// When the file cannot be opened again.
    pub(super) fn shots(self) -> Result<impl Iterator<Item = Result<(Option<String>, Answer)>> + Send + 'static> {
        let first = self.table.groups(self.group_by)?;
        let again = std::iter::repeat_n((self.table.clone(), self.group_by), self.repeat - 1);
        let limit = self.limit;
        let passes = std::iter::once(Ok(first)).chain(again.map(|(table, group_by)| table.groups(group_by)));
        let groups = passes.flat_map(move |pass| {
            let (groups, broken) = match pass {
                Ok(groups) => (Some(groups), None),
                Err(error) => (None, Some(Err(error))),
            };
            groups.into_iter().flatten().take(limit).chain(broken)
        });
        Ok((1_u64..).zip(groups).map(move |(row, group)| Ok(self.reading(row, group?))))
    }

    fn reading(&self, row: u64, group: Group) -> (Option<String>, Answer) {
        let label = self.labels.as_ref().map_or(Label::Absent, |labels| labels.of(&group));
        let body = group.fault.is_none().then(|| self.envelope.around(row, &self.mapping, &group));
        let mut answer = Answer::new(row, group.key);
        match label {
            Label::Class(class) => answer.label = Some(class),
            Label::Unknown(text) => answer.label_unknown = Some(text),
            Label::Absent => {}
        }
        if let Some(fault) = &group.fault {
            answer.fail(&format!("not sent: {fault}"));
        }
        (body, answer)
    }
}

impl Envelope {
    fn new(args: &LoadArgs, task: &str) -> Self {
        let mut middle = String::from("\"");
        if let Some(model) = &args.model {
            middle.push_str(&format!(",\"model_name\":{}", quoted(model)));
        }
        if let Some(ms) = args.deadline_ms {
            middle.push_str(&format!(",\"deadline_ms\":{ms}"));
        }
        middle.push_str(",\"sensor_data\":");
        // The prefix needs no escaping: its alphabet was checked.
        let head = format!("{{\"task\":{},\"sensor_id\":\"{}-", quoted(task), args.sensor_id);
        Self { head, middle, sensors: args.sensors }
    }

    fn around(&self, row: u64, mapping: &Mapping, group: &Group) -> String {
        let sensor = (row - 1) % self.sensors + 1;
        let mut body = format!("{}{sensor}{}", self.head, self.middle);
        mapping.write(&group.rows, &mut body);
        body.push('}');
        body
    }
}

fn saturate(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Wishes;
    use super::super::samples::{args, field, schema, table};
    use super::*;

    fn shots(csv: &str, flags: &str) -> (u64, Vec<(Option<String>, Answer)>) {
        let (_file, table) = table(csv);
        let args = args(flags).unwrap();
        let task = CatalogTask { schema: schema(vec![field("x", 1)]), models: vec![] };
        let wishes = Wishes { map: &[], constant: &[], scale: &[], grouped: false };
        let mapping = Mapping::resolve(&wishes, &table, &task.schema).unwrap();
        let labels = args.label.as_ref().map(|name| Labels::in_table(name, &[], &table, &task.schema).unwrap());
        let readings = Readings::new(&args, table, None, mapping, labels, &task);
        let count = readings.count().unwrap();
        (count, readings.shots().unwrap().map(Result::unwrap).collect())
    }

    #[test]
    fn each_reading_is_json_with_its_envelope() {
        let (_, shots) = shots("x\n1\n2\n3\n", "--model fast --deadline-ms 40 --sensor-id s --sensors 2");
        let bodies: Vec<serde_json::Value> =
            shots.iter().map(|(body, _)| serde_json::from_str(body.as_ref().unwrap()).unwrap()).collect();
        assert_eq!(
            bodies[2],
            serde_json::json!({"task":"t","sensor_id":"s-1","model_name":"fast","deadline_ms":40,"sensor_data":{"x":3}})
        );
        assert_eq!(bodies[1]["sensor_id"], "s-2");
    }

    #[test]
    fn limit_and_repeat_make_the_count_and_rows_are_numbered_through() {
        let (count, shots) = shots("x\n1\n2\n3\n", "--limit 2 --repeat 3");
        assert_eq!((count, shots.len()), (6, 6));
        assert_eq!(shots.iter().map(|(_, answer)| answer.row).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(
            shots[0].0.as_ref().unwrap().replace("load-1", ""),
            shots[2].0.as_ref().unwrap().replace("load-3", "")
        );
    }

    #[test]
    fn a_ragged_row_is_counted_and_failed_without_a_body() {
        let (count, shots) = shots("x,y\n1,normal\n2\n3,odd\n", "--label y");
        assert_eq!((count, shots.len()), (3, 3));
        assert_eq!(shots[0].1.label.as_deref(), Some("normal"));
        assert_eq!(shots[1].0, None);
        assert!(shots[1].1.error.as_ref().unwrap().contains("line 3"));
        assert_eq!((shots[2].1.label.as_deref(), shots[2].1.label_unknown.as_deref()), (None, Some("odd")));
    }
}
