//! The catalog's JSON, read by hand.
//!
//! Every reader here mirrors the serde attributes of the type it makes; the test holds both
//! against each other. Only in one thing it is milder: what a later version may add is left out.

use serde_json::value::RawValue;

use super::{Catalog, CatalogModel, CatalogTask, ModelType};
use crate::reading::json::{self, Object};
use crate::schema::{Field, FieldKind, Target, TaskKind, TaskSchema};

/// The name of the innermost field that cannot be read; empty while only the caller knows it.
type Read<T> = Result<T, &'static str>;

/// The fault of a task that only a later version understands.
const LATER: &str = "a task of a later version";

pub(super) fn catalog(text: &str) -> Read<Catalog> {
    let object: Object<'_> = serde_json::from_str(text).map_err(|_| "the catalog")?;
    Ok(Catalog {
        etag: need(&object, "etag", text_of)?,
        default_task: may(&object, "default_task", text_of)?,
        tasks: list(&object, "tasks", task_if_known)?.into_iter().flatten().collect(),
    })
}

fn task_if_known(raw: &RawValue) -> Read<Option<CatalogTask>> {
    match task(raw) {
        Err(LATER) => Ok(None),
        read => read.map(Some),
    }
}

fn task(raw: &RawValue) -> Read<CatalogTask> {
    let object = object(raw)?;
    Ok(CatalogTask { schema: need(&object, "schema", schema)?, models: list(&object, "models", model)? })
}

fn schema(raw: &RawValue) -> Read<TaskSchema> {
    let object = object(raw)?;
    Ok(TaskSchema {
        name: need(&object, "name", text_of)?,
        title: may(&object, "title", text_of)?.unwrap_or_default(),
        description: may(&object, "description", text_of)?.unwrap_or_default(),
        // Nothing after it may be read before: the rest of such a schema may look otherwise, too.
        kind: TaskKind::from_name(&need(&object, "kind", text_of)?).ok_or(LATER)?,
        tiers: list(&object, "tiers", text_of)?,
        classes: list_or_none(&object, "classes", text_of)?,
        normal: list_or_none(&object, "normal", text_of)?,
        target: may(&object, "target", target)?,
        fields: list(&object, "fields", field)?,
    })
}

fn target(raw: &RawValue) -> Read<Target> {
    let object = object(raw)?;
    Ok(Target {
        name: need(&object, "name", text_of)?,
        unit: may(&object, "unit", text_of)?.unwrap_or_default(),
        tolerance: may(&object, "tolerance", number)?,
    })
}

fn field(raw: &RawValue) -> Read<Field> {
    let object = object(raw)?;
    Ok(Field {
        name: need(&object, "name", text_of)?,
        unit: may(&object, "unit", text_of)?.unwrap_or_default(),
        description: may(&object, "description", text_of)?.unwrap_or_default(),
        kind: match need(&object, "type", text_of)?.as_str() {
            "number" => FieldKind::Number,
            "category" => FieldKind::Category,
            "text" => FieldKind::Text,
            _ => return Err(LATER),
        },
        length: may(&object, "length", size)?.unwrap_or(1),
        min: may(&object, "min", number)?,
        max: may(&object, "max", number)?,
        values: list_or_none(&object, "values", text_of)?,
        default: may(&object, "default", text_of)?,
        max_length: may(&object, "max_length", size)?,
    })
}

fn model(raw: &RawValue) -> Read<CatalogModel> {
    let object = object(raw)?;
    Ok(CatalogModel {
        name: need(&object, "name", text_of)?,
        description: may(&object, "description", text_of)?.unwrap_or_default(),
        tier: may(&object, "tier", text_of)?,
        model_type: may(&object, "type", text_of)?.and_then(|name| ModelType::from_name(&name)),
        default_version: need(&object, "default_version", whole)?,
        versions: list(&object, "versions", whole)?,
    })
}

fn object(raw: &RawValue) -> Read<Object<'_>> {
    serde_json::from_str(raw.get()).map_err(|_| "")
}

fn text_of(raw: &RawValue) -> Read<String> {
    json::string(raw).map(std::borrow::Cow::into_owned).ok_or("")
}

fn whole(raw: &RawValue) -> Read<u32> {
    raw.get().parse().map_err(|_| "")
}

fn size(raw: &RawValue) -> Read<usize> {
    raw.get().parse().map_err(|_| "")
}

fn number(raw: &RawValue) -> Read<f64> {
    json::number(raw).map_err(|_| "")
}

fn need<T>(object: &Object<'_>, name: &'static str, read: fn(&RawValue) -> Read<T>) -> Read<T> {
    may(object, name, read)?.ok_or(name)
}

fn may<T>(object: &Object<'_>, name: &'static str, read: fn(&RawValue) -> Read<T>) -> Read<Option<T>> {
    let raw = object.get(name).filter(|raw| raw.get() != "null");
    raw.map(read).transpose().map_err(|inner| if inner.is_empty() { name } else { inner })
}

fn list_or_none<T>(object: &Object<'_>, name: &'static str, read: fn(&RawValue) -> Read<T>) -> Read<Vec<T>> {
    if object.get(name).is_some() { list(object, name, read) } else { Ok(vec![]) }
}

fn list<T>(object: &Object<'_>, name: &'static str, read: fn(&RawValue) -> Read<T>) -> Read<Vec<T>> {
    let raw = object.get(name).ok_or(name)?;
    let array = json::array(raw, usize::MAX).ok_or(name)?;
    array
        .elements
        .into_iter()
        .map(read)
        .collect::<Read<_>>()
        .map_err(|inner| if inner.is_empty() { name } else { inner })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::samples;

    fn sample() -> Catalog {
        let model = |name: &str, tier: Option<&str>| CatalogModel {
            name: name.to_owned(),
            description: "a \"quoted\" é".to_owned(),
            tier: tier.map(str::to_owned),
            model_type: tier.map(|_| ModelType::Sklearn),
            default_version: 2,
            versions: vec![1, 2],
        };
        let task = |schema| CatalogTask { schema, models: vec![model("dear", Some("accurate")), model("odd", None)] };
        Catalog {
            etag: "e".to_owned(),
            default_task: Some("pump".to_owned()),
            tasks: vec![
                task(samples::cycle()),
                task(samples::pump()),
                task(samples::sentiment()),
                task(samples::wear()),
            ],
        }
    }

    #[test]
    fn it_reads_what_deriving_reads() {
        let mut catalogs = vec![sample(), sample()];
        catalogs[1].default_task = None;
        catalogs[1].tasks[0].schema.fields[0].unit = "bar".to_owned();
        catalogs[1].tasks[2].schema.fields[0].max_length = None;
        catalogs[1].tasks[3].schema.target.as_mut().unwrap().tolerance = None;
        for catalog in catalogs {
            let text = serde_json::to_string(&catalog).unwrap();
            assert_eq!(Catalog::from_json(&text), Ok(catalog.clone()));
            assert_eq!(serde_json::from_str::<Catalog>(&text).unwrap(), catalog);
        }
    }

    #[test]
    fn what_is_left_out_has_the_same_default_and_what_is_wrong_is_named() {
        let text = r#"{"etag":"e","tasks":[{"schema":{"name":"t","kind":"anomaly","tiers":["a"],"later":1,
            "fields":[{"name":"f","type":"number"}]},"models":[{"name":"m","default_version":1,"versions":[1]}]}]}"#;
        assert_eq!(Catalog::from_json(text), Ok(serde_json::from_str(text).unwrap()));
        for (from, to, name) in [
            (r#""etag":"e","#, "", "etag"),
            (r#""anomaly""#, "3", "kind"),
            (r#""number""#, r#""number","length":-1"#, "length"),
            (r#""number""#, r#""number","max_length":"9""#, "max_length"),
            (r#""later":1"#, r#""target":{"unit":"mm"}"#, "name"),
            (r#"["a"]"#, "\"a\"", "tiers"),
            (r#"["a"]"#, "[1]", "tiers"),
            (r#"{"name":"f","type":"number"}"#, "7", "fields"),
            (r#""schema""#, r#""scheme""#, "schema"),
            (r#""default_version":1"#, r#""default_version":"1""#, "default_version"),
        ] {
            let wrong = text.replace(from, to);
            assert_eq!(Catalog::from_json(&wrong), Err(name));
            assert!(serde_json::from_str::<Catalog>(&wrong).is_err(), "{name}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_left_out_and_the_rest_is_kept() {
        let known = r#"{"schema":{"name":"t","kind":"anomaly","tiers":["a"],"fields":[{"name":"f","type":"number"}]},
            "models":[{"name":"m","type":"spiking","default_version":1,"versions":[1]}]}"#;
        let kind = r#"{"schema":{"name":"u","kind":"forecast","horizon":24},"models":"elsewhere"}"#;
        let field = known.replace("number", "image");
        let text = format!(r#"{{"etag":"e","default_task":"u","tasks":[{kind},{known},{field}]}}"#);
        let catalog = Catalog::from_json(&text).unwrap();
        assert_eq!(catalog.task_names(), "t");
        assert_eq!(catalog.tasks[0].models[0].model_type, None);
        assert!(Catalog::from_json(&text.replace(r#""name":"t","#, "")).is_err(), "a known kind is still checked");
    }

    proptest! {
        #[test]
        fn no_cut_or_changed_text_can_break_it(at in 0usize..4_000, byte in any::<char>()) {
            let text = serde_json::to_string(&sample()).unwrap();
            let cut: String = text.chars().take(at).collect();
            drop(Catalog::from_json(&cut));
            let changed: String = text.chars().enumerate().map(|(i, c)| if i == at { byte } else { c }).collect();
            drop(Catalog::from_json(&changed));
        }
    }
}
