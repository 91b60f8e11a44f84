//! Execution providers: what computes, besides the processor's own cores.
//!
//! Each is a cargo feature. One that is asked for and not there is an error: a silent fall back to
//! the processor would be found out by its latency only.

use ort::ep::ExecutionProviderDispatch;
use ort::session::builder::SessionBuilder;

/// What computes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::engine) enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card by CUDA.
    Cuda,
    /// An NVIDIA card by TensorRT.
    Tensorrt,
    /// Intel's OpenVINO.
    Openvino,
    /// XNNPACK, for ARM processors.
    Xnnpack,
}

impl Provider {
    /// Its name in `model.toml` and in messages.
    pub(in crate::engine) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
            Self::Xnnpack => "xnnpack",
        }
    }
}

/// Adds the provider to a session that is being built.
pub(super) fn register(builder: SessionBuilder, provider: Provider) -> ort::Result<SessionBuilder> {
    // The processor's provider is there by itself; naming it would switch its memory arena off.
    if provider == Provider::Cpu {
        return Ok(builder);
    }
    let dispatch = dispatch(provider).ok_or_else(|| {
        let name = provider.name();
        ort::Error::new(format!(
            "the execution provider `{name}` is not in this build; build with `--features {name}` and bring an ONNX \
             Runtime that has it (ORT_DYLIB_PATH)"
        ))
    })?;
    Ok(builder.with_execution_providers([dispatch.error_on_failure()])?)
}

fn dispatch(provider: Provider) -> Option<ExecutionProviderDispatch> {
    match provider {
        #[cfg(feature = "cuda")]
        Provider::Cuda => Some(ort::ep::CUDA::default().build()),
        #[cfg(feature = "tensorrt")]
        Provider::Tensorrt => Some(ort::ep::TensorRT::default().build()),
        #[cfg(feature = "openvino")]
        Provider::Openvino => Some(ort::ep::OpenVINO::default().build()),
        #[cfg(feature = "xnnpack")]
        Provider::Xnnpack => Some(ort::ep::XNNPACK::default().build()),
        _ => None,
    }
}
