//! The documents say what the code does.

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
