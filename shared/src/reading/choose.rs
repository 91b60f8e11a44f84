//! Which task a body means that does not say so.

use super::json::{Object, array, excerpt, pointer};
use super::{Fault, Form};
use crate::catalog::{Catalog, CatalogTask};
use crate::schema::TaskSchema;

/// The one task whose schema the reading's shape fits; where none or several do, the default task,
/// or the task that shares the most field names.
///
/// Shape only (names, lengths), and the nearest task where none fits: what is wrong is then told
/// as faults of that task, instead of as a riddle about which task was meant.
pub(super) fn task<'c>(form: &Form<'_>, model: Option<&str>, catalog: &'c Catalog) -> Result<&'c CatalogTask, Fault> {
    let default = catalog.default_task.as_deref().and_then(|name| catalog.task(name));
    let mut fitting: Vec<&CatalogTask> = catalog.tasks.iter().filter(|task| fits(&task.schema, form)).collect();
    // The model's name tells tasks apart that the shape does not; alone it says nothing, it may be a typing error.
    if fitting.len() > 1 && fitting.iter().any(|task| has(task, model)) {
        fitting.retain(|task| has(task, model));
    }
    match (fitting.as_slice(), default) {
        ([only], _) => Ok(only),
        ([], Some(default)) => Ok(default),
        ([], None) => nearest(form, catalog).ok_or_else(|| misfit(form, catalog)),
        (several, Some(default)) if several.iter().any(|task| task.schema.name == default.schema.name) => Ok(default),
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|task| task.schema.name.as_str()).collect();
            let detail = format!("the reading fits several tasks, name one: {}", names.join(", "));
            Err(Fault::new("#/task", "missing", detail))
        }
    }
}

fn has(task: &CatalogTask, model: Option<&str>) -> bool {
    model.is_none_or(|model| task.model(model).is_some())
}

fn fits(schema: &TaskSchema, form: &Form<'_>) -> bool {
    match form {
        Form::Text(_) => schema.text_field().is_some(),
        // A text task has width 0, and an empty array is no text.
        Form::Features(_) if schema.text_field().is_some() => false,
        Form::Features(raw) => array(raw, 0).is_some_and(|values| values.length == schema.width()),
        Form::Named(raw) => serde_json::from_str::<Object<'_>>(raw.get()).is_ok_and(|object| {
            let known = object.entries.iter().all(|(name, _)| schema.fields.iter().any(|field| field.name == *name));
            let whole = schema.fields.iter().all(|field| field.default.is_some() || object.get(&field.name).is_some());
            known && whole
        }),
    }
}

/// The task with the most of the reading's field names; none where no name is known anywhere.
fn nearest<'c>(form: &Form<'_>, catalog: &'c Catalog) -> Option<&'c CatalogTask> {
    let Form::Named(raw) = form else { return None };
    let object: Object<'_> = serde_json::from_str(raw.get()).ok()?;
    let shared =
        |task: &CatalogTask| task.schema.fields.iter().filter(|field| object.get(&field.name).is_some()).count();
    catalog.tasks.iter().max_by_key(|task| shared(task)).filter(|task| shared(task) > 0)
}

/// The fault where not even a nearest task can be told.
fn misfit(form: &Form<'_>, catalog: &Catalog) -> Fault {
    // What the value must begin with to be of the right type, and what a task says of it.
    let (raw, begin, kind, code, takes): (_, _, _, _, fn(&TaskSchema) -> String) = match form {
        Form::Features(raw) => (raw, '[', "an array of numbers", "wrong_length", shown_width),
        Form::Named(raw) => (raw, '{', "an object of fields", "unexpected", |schema| schema.name.clone()),
        Form::Text(raw) => (raw, '"', "a string", "unexpected", shown_width),
    };
    let field = form.name();
    if !raw.get().starts_with(begin) {
        let detail = format!("`{field}` must be {kind}, not {}", excerpt(raw));
        return Fault::new(pointer(&[field]), "wrong_type", detail);
    }
    let tasks: Vec<String> = catalog.tasks.iter().map(|task| takes(&task.schema)).collect();
    let detail = format!("`{field}` fits no task; there are: {} (their fields: GET /v1/catalog)", tasks.join(", "));
    Fault::new(pointer(&[field]), code, detail)
}

fn shown_width(schema: &TaskSchema) -> String {
    match schema.text_field() {
        Some(_) => format!("{} takes a text", schema.name),
        None => format!("{} takes {} numbers", schema.name, schema.width()),
    }
}
