//! What a caller may say in the query instead of the body: `model_name`, `model_type`, `model_version`, `strict`,
//! `priority`, `callback_url`.

use std::collections::BTreeSet;

use axum::extract::Query;
use shared::catalog::{Catalog, CatalogModel, ModelType};
use shared::problem::ErrorCode;
use shared::reading::{MAX_URL_BYTES, Priority, Request, unknown_model, unknown_type};

use super::super::error::ApiError;

/// The query's wishes; what the body says goes before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::http) struct Wanted {
    model_name: Option<String>,
    model_type: Option<ModelType>,
    model_version: Option<u32>,
    strict: bool,
    priority: Option<Priority>,
    callback_url: Option<String>,
}

impl Wanted {
    /// Reads a query string.
    pub(in crate::http) fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let uri: axum::http::Uri =
            format!("/?{}", query.unwrap_or_default()).parse().map_err(|_| wrong("the query"))?;
        let Query(pairs): Query<Vec<(String, String)>> =
            Query::try_from_uri(&uri).map_err(|error| ApiError::new(ErrorCode::InvalidQuery, error.to_string()))?;
        let mut wanted = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in &pairs {
            let good = match name.as_str() {
                "model_name" => {
                    wanted.model_name = Some(value.clone());
                    true
                }
                "model_type" => {
                    wanted.model_type = ModelType::from_name(value);
                    wanted.model_type.is_some()
                }
                "model_version" => {
                    let number = value.strip_prefix('v').unwrap_or(value);
                    wanted.model_version = number.parse().ok().filter(|version| *version >= 1);
                    wanted.model_version.is_some()
                }
                "strict" => {
                    wanted.strict = value == "true";
                    matches!(value.as_str(), "true" | "false")
                }
                "priority" => {
                    wanted.priority = Priority::from_name(value);
                    wanted.priority.is_some()
                }
                "callback_url" => {
                    wanted.callback_url = Some(value.clone());
                    (1..=MAX_URL_BYTES).contains(&value.len())
                }
                _ => false,
            };
            if !good {
                return Err(wrong(&format!("`{name}={value}`")));
            }
            if !seen.insert(name) {
                return Err(wrong(&format!("`{name}` twice")));
            }
        }
        Ok(wanted)
    }

    /// Reads a body and adds the wishes to it.
    pub(in crate::http) fn parse<'c>(&self, body: &[u8], catalog: &'c Catalog) -> Result<Request<'c>, ApiError> {
        let mut request = shared::reading::parse(body, catalog)?;
        self.apply(&mut request)?;
        Ok(request)
    }

    fn apply(&self, request: &mut Request<'_>) -> Result<(), ApiError> {
        if request.model_name.is_none()
            && let Some(name) = &self.model_name
        {
            let model = request.task.model(name).ok_or_else(|| unknown_model(request.task, name))?;
            if let Some(model_type) = request.model_type.filter(|wanted| model.model_type != Some(*wanted)) {
                return Err(unknown_type(request.task, Some(name), model_type).into());
            }
            request.model_name = Some(name.clone());
        }
        if request.model_type.is_none()
            && let Some(model_type) = self.model_type
        {
            let fits = |model: &&CatalogModel| model.model_type == Some(model_type);
            let known = match &request.model_name {
                Some(name) => request.task.model(name).filter(fits),
                None => request.task.models.iter().find(fits),
            };
            if known.is_none() {
                return Err(unknown_type(request.task, request.model_name.as_deref(), model_type).into());
            }
            request.model_type = Some(model_type);
        }
        request.model_version = request.model_version.or(self.model_version);
        request.strict |= self.strict;
        request.priority = request.priority.or(self.priority);
        if request.callback_url.is_none() {
            request.callback_url.clone_from(&self.callback_url);
        }
        Ok(())
    }
}

fn wrong(what: &str) -> ApiError {
    let detail = format!(
        "cannot use {what}; there are: model_name, model_type (sklearn, onnx), model_version (from 1), strict (true, \
         false), priority (high, normal, low), callback_url; all else stands in the body"
    );
    ApiError::new(ErrorCode::InvalidQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_others_refused() {
        let wanted = Wanted::read(Some("model_name=fast&model_version=v2&strict=true&model_type=sklearn")).unwrap();
        assert_eq!((wanted.model_name.as_deref(), wanted.model_version), (Some("fast"), Some(2)));
        assert_eq!((wanted.strict, wanted.model_type), (true, Some(ModelType::Sklearn)));
        assert_eq!(Wanted::read(None).unwrap(), Wanted::default());
        let job = Wanted::read(Some("priority=low&callback_url=https%3A%2F%2Fa.example%2Fx%3Fy%3D1")).unwrap();
        assert_eq!((job.priority, job.callback_url.as_deref()), (Some(Priority::Low), Some("https://a.example/x?y=1")));
        for query in [
            "model_version=0",
            "strict=maybe",
            "model_type=torch",
            "modelname=fast",
            "model_version=1&model_version=2",
            "priority=urgent",
            "callback_url=",
        ] {
            assert_eq!(Wanted::read(Some(query)).unwrap_err().code, ErrorCode::InvalidQuery, "{query}");
        }
    }
}
