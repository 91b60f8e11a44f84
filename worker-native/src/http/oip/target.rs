//! Which model and version a path names.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts as RequestParts;
use serde::Deserialize;
use shared::problem::ErrorCode;

use super::engine::{Missing, Version};
use super::{ApiError, Oip};
use crate::engine::tensor::Signature;

/// The model of a path, percent-decoded, and its version where the path has one.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) model: String,
    version: Option<String>,
}

impl FromRequestParts<Oip> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut RequestParts, oip: &Oip) -> Result<Self, ApiError> {
        let path = Path::<Self>::from_request_parts(parts, oip).await;
        path.map(|Path(target)| target).map_err(|error| {
            ApiError::caused(ErrorCode::NotFound, "the path's model name is not UTF-8, percent-encoded", &error)
        })
    }
}

impl Target {
    /// The version, loaded or not.
    pub(super) fn find(&self, oip: &Oip) -> Result<Arc<dyn Version>, ApiError> {
        let number = self.version.as_deref().map(number);
        // A version that is no number is one that is not there.
        let found = match number {
            Some(None) => Err(Missing::Unknown),
            number => oip.models.find(&self.model, number.flatten()),
        };
        found.map_err(|missing| match missing {
            Missing::Unknown => self.missing("is not found"),
            Missing::Ambiguous(names) => self.missing(&format!("is not one model: ask for {}", names.join(" or "))),
        })
    }

    /// The version and what it takes, where it answers now.
    pub(super) async fn find_ready(&self, oip: &Oip) -> Result<(Arc<dyn Version>, Arc<Signature>), ApiError> {
        let version = self.find(oip)?;
        let signature = version.signature().await.map_err(|error| {
            let error = ApiError::from(error);
            let ApiError { detail, .. } = self.missing(&format!("is not at ready state: {}", error.detail));
            ApiError { detail, ..error }
        })?;
        Ok((version, signature))
    }

    /// Every version the path means: the one it names, or all of the model.
    pub(super) fn find_all(&self, oip: &Oip) -> Result<Vec<Arc<dyn Version>>, ApiError> {
        if self.version.is_some() {
            return Ok(vec![self.find(oip)?]);
        }
        let numbers = oip.models.versions(&self.model);
        let found: Vec<_> =
            numbers.into_iter().filter_map(|one| oip.models.find(&self.model, Some(one)).ok()).collect();
        if found.is_empty() { Err(self.missing("is not found")) } else { Ok(found) }
    }

    /// Starts as Triton's does: its clients look for these words.
    fn missing(&self, what: &str) -> ApiError {
        let version = self.version.as_ref().map(|version| format!("version {version} ")).unwrap_or_default();
        let code = if version.is_empty() { ErrorCode::UnknownModel } else { ErrorCode::UnknownVersion };
        ApiError::new(code, format!("Request for unknown model: '{}' {version}{what}", self.model))
    }
}

fn number(version: &str) -> Option<u32> {
    // `parse` would take a sign.
    version.bytes().all(|byte| byte.is_ascii_digit()).then(|| version.parse().ok()).flatten()
}
