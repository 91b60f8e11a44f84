use super::super::samples::{field, pairs, schema, table};
use super::*;

fn pump() -> TaskSchema {
    let state = Field {
        kind: FieldKind::Category,
        values: vec!["normal".to_owned(), "idle".to_owned()],
        default: Some("normal".to_owned()),
        ..field("state", 1)
    };
    schema(vec![field("temperature", 1), field("duty", 1), state])
}

/// The bodies of a CSV, or every fault of the mapping.
fn check(csv: &str, schema: &TaskSchema, map: &str, constant: &str, group_by: Option<&str>) -> Result<String, String> {
    let (scale, map) = map.split_once(" scale ").map_or((String::new(), map), |(map, scale)| (scale.to_owned(), map));
    let (map, constant, scale) = (pairs(map), pairs(constant), pairs(&scale));
    let (_file, table) = table(csv);
    let wishes = Wishes { map: &map, constant: &constant, scale: &scale, grouped: group_by.is_some() };
    let mapping = Mapping::resolve(&wishes, &table, schema).map_err(|faults| faults.join("\n"))?;
    let mut out = String::new();
    for group in table.groups(group_by.map(|name| table.column(name).unwrap())).unwrap() {
        mapping.write(&group.unwrap().rows, &mut out);
    }
    Ok(out)
}

#[test]
fn columns_named_as_fields_are_taken_and_others_ignored() {
    let csv = "x,duty,temperature,state\n1,0.50,3.,idle\n2,1e2,+4,\n";
    assert_eq!(
        check(csv, &pump(), "", "", None).unwrap(),
        r#"{"temperature":3.0,"duty":0.50,"state":"idle"}{"temperature":4.0,"duty":1e2}"#
    );
}

#[test]
fn what_is_no_number_is_sent_as_it_stands_for_the_service_to_refuse() {
    let csv = "temperature,duty\nhot,\nNaN,1e999\n\"1,5\",0x1F\n";
    assert_eq!(
        check(csv, &pump(), "", "", None).unwrap(),
        r#"{"temperature":"hot","duty":null}{"temperature":"NaN","duty":1e999}{"temperature":"1,5","duty":"0x1F"}"#
    );
}

#[test]
fn maps_constants_and_scales_work_together() {
    let csv = "T in F;state\n50;idle\n";
    assert_eq!(
        check(csv, &pump(), "T in F=temperature scale T in F=0.5", "duty=0.75,state=normal", None).unwrap(),
        r#"{"temperature":25.0,"duty":0.75,"state":"normal"}"#
    );
}

#[test]
fn groups_become_arrays_of_whatever_length_they_have() {
    let schema = schema(vec![field("PS1", 3), field("load", 1)]);
    let csv = "cycle,PS1,load\n1,1,7\n1,2,8\n1,3,9\n2,4,7\n2,x,8\n";
    assert_eq!(
        check(csv, &schema, "", "", Some("cycle")).unwrap(),
        r#"{"PS1":[1,2,3],"load":7}{"PS1":[4,"x"],"load":7}"#
    );
}

#[test]
fn several_columns_can_fill_an_array_field() {
    let schema = schema(vec![field("PS1", 2), field("FS1", 2)]);
    assert_eq!(check("a,b\n1,2\n", &schema, "b=PS1,a=PS1", "FS1=0", None).unwrap(), r#"{"PS1":[2,1],"FS1":[0,0]}"#);
}

#[test]
fn every_fault_is_told_at_once_with_what_there_is() {
    let fault = check("a,b\n1,2\n", &pump(), "a=speed,c=temperature scale b=2,a=x", "colour=1,state=off", None);
    let fault = fault.unwrap_err();
    for part in [
        "field `speed` is not in task `t`; its fields: temperature, duty, state",
        "field `colour` is not in task",
        "column `c` is not in",
        "it has: a, b",
        "field `duty` has no column",
        "--scale b: this column fills no field",
        "--scale a=x: the factor must be a number",
        "--constant state=off: accepted is one of normal, idle",
    ] {
        assert!(fault.contains(part), "{part:?} is not in:\n{fault}");
    }
    assert_eq!(fault.lines().count(), 7, "{fault}");
}

#[test]
fn shapes_that_cannot_fit_are_faults() {
    let array = schema(vec![field("PS1", 3)]);
    assert!(check("PS1\n1\n", &array, "", "", None).unwrap_err().contains("--group-by"));
    assert!(check("a,b,g\n1,2,3\n", &array, "a=PS1,b=PS1", "", Some("g")).unwrap_err().contains("not 2"));
    assert!(check("a,b\n1,2\n", &pump(), "a=duty,b=duty", "temperature=1", None).unwrap_err().contains("one value"));
    assert!(check("duty,temperature\n1,2\n", &pump(), "", "duty=1", None).unwrap_err().contains("both"));
}

#[test]
fn a_text_is_sent_as_it_stands_also_where_it_looks_like_a_number() {
    let schema = schema(vec![Field { kind: FieldKind::Text, ..field("text", 1) }]);
    let csv = "review,text\n\"I \"\"love\"\" it, ♥\",x\n42,x\n,x\n";
    assert_eq!(
        check(csv, &schema, "review=text", "", None).unwrap(),
        r#"{"text":"I \"love\" it, ♥"}{"text":"42"}{"text":""}"#
    );
}
