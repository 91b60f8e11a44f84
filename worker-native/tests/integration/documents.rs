//! The documents say what the code does.

use std::path::{Path, PathBuf};

use shared::problem::ErrorCode;

use crate::support::root;

#[test]
fn the_error_table_has_every_code_with_its_status_and_retry_after() {
    let document = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    for code in ErrorCode::ALL {
        let row = format!("| `{}` | {} |", code.name(), code.http_status());
        let line =
            document.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("docs/api.md lacks `{row}`"));
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let wanted = code.retry_after_s().map_or(String::new(), |seconds| seconds.to_string());
        assert!(last.starts_with(&wanted) && last.is_empty() == wanted.is_empty(), "{line}");
    }
}

/// The targets of a text's Markdown links `[…](target)`; what stands between fences or backticks is no link.
fn links(text: &str) -> Vec<&str> {
    let outside = text.split("\n```").step_by(2);
    let prose = outside.flat_map(|part| part.lines()).flat_map(|line| line.split('`').step_by(2));
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

/// All Markdown files below a folder.
fn documents(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let top =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md", "deploy/README.md"];
    let mut files: Vec<PathBuf> = top.iter().map(|name| root().join(name)).collect();
    documents(&root().join("docs"), &mut files);
    let (mut followed, mut broken) = (0, Vec::new());
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for link in links(&text).into_iter().filter(|link| !link.contains(':') && !link.starts_with('#')) {
            followed += 1;
            let target = link.split('#').next().unwrap();
            if !file.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 30, "only {followed} links were found in {} documents", files.len());
}
