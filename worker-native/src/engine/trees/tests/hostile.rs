//! Changed and invented files: no panic, no endless loop, a bounded time.

use proptest::prelude::*;

use super::forests::Forest;
use super::*;

fn load_and_run(model: &[u8], output: &str) {
    let Ok(trees) = TreeModel::load(model, output) else { return };
    let features: Vec<f32> = (0..trees.width() * 11).map(|i| [0.5, f32::NAN, -1e30, 2.0][i % 4]).collect();
    let mut out = Vec::new();
    trees.run(&mut Scratch::default(), 11, &features, &mut out);
    assert_eq!(out.len(), 11 * trees.columns());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_file_is_refused_or_runs(
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let forest = Forest { trees: 3, depth: 4, missing: true, ..Forest::default() };
        let mut model = match which {
            0 => forest.regressor(1, "SUM", "NONE", true),
            1 => forest.classifier(3, "SOFTMAX", true),
            2 => forest.by_position(2, "MIN"),
            _ => forest.between(&forests::chains().swap_remove(9).1, 2),
        };
        for (place, byte) in &changes {
            let place = place.index(model.len());
            model[place] = *byte;
        }
        if let Some(cut) = cut {
            model.truncate(cut.index(model.len()));
        }
        load_and_run(&model, if which == 3 { "out" } else { "Y" });
    }
}

#[test]
fn a_short_batch_gives_the_rows_it_has() {
    let trees = TreeModel::load(&Forest::default().regressor(1, "SUM", "NONE", true), "Y").unwrap();
    let mut out = Vec::new();
    trees.run(&mut Scratch::default(), 10, &[0.0; 13], &mut out);
    assert_eq!(out.len(), 2);
    trees.run(&mut Scratch::default(), 0, &[], &mut out);
    trees.run(&mut Scratch::default(), usize::MAX, &[], &mut out);
    assert_eq!(out.len(), 2);
}
