//! `infer-router`: the native side's one binary.

use std::process::ExitCode;

use worker_native::cli;

/// Most of what a job costs here is small allocations that one thread makes and another frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run().await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            if error.is::<cli::UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word to a person whose command could not run")]
fn report(error: &anyhow::Error) {
    eprintln!("infer-router: {error:#}");
}
