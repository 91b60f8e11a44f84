//! The operators around the trees: a list of steps over small tables of float32.
//!
//! A value is a table of as many rows as the batch has; steps run over a tile of rows at a time, so that all tables
//! stay in the cache. Owns the arithmetic; which graphs become programs is `load`'s.

use super::flat::Flat;
use super::run::{TreeScratch, logistic, softmax};

/// Rows that run through all steps together.
pub(super) const TILE_ROWS: usize = 64;

/// Which table: 0 is the input, the others are made by one step each.
pub(super) type Value = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Neg,
    Exp,
    Log,
    Sqrt,
    Abs,
    Sigmoid,
}

/// An operand of a [`Step::Binary`].
#[derive(Debug)]
pub(super) enum Operand {
    Table(Value),
    /// One value for each column, or one for all.
    Constant(Vec<f32>),
}

#[derive(Debug)]
pub(super) enum Step {
    Trees {
        from: Value,
        trees: Flat,
    },
    Unary {
        from: Value,
        with: Unary,
    },
    Binary {
        left: Operand,
        right: Operand,
        with: Binary,
    },
    Softmax {
        from: Value,
    },
    /// These columns, in this order.
    Select {
        from: Value,
        columns: Vec<usize>,
    },
    /// Side by side.
    Join {
        from: Vec<Value>,
    },
}

/// A checked list of steps.
#[derive(Debug)]
pub(super) struct Program {
    /// Columns of each table; the first is the input.
    pub(super) columns: Vec<usize>,
    /// Step number i makes table number i + 1.
    pub(super) steps: Vec<Step>,
    pub(super) result: Value,
}

/// Working memory for running programs; one for each worker, any model.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    tables: Vec<Vec<f32>>,
    trees: TreeScratch,
}

impl Program {
    pub(super) fn width(&self) -> usize {
        self.columns.first().copied().unwrap_or_default()
    }

    pub(super) fn columns(&self) -> usize {
        self.columns.get(self.result).copied().unwrap_or_default()
    }

    /// Appends the output of a tile of whole rows.
    pub(super) fn run(&self, scratch: &mut Scratch, features: &[f32], out: &mut Vec<f32>) {
        let rows = features.len() / self.width().max(1);
        let Scratch { tables, trees } = scratch;
        if tables.len() < self.columns.len() {
            tables.resize_with(self.columns.len(), Vec::new);
        }
        for (made, step) in (1..).zip(&self.steps) {
            // The last step writes where the caller wants it.
            if made == self.result && self.steps.len() == made {
                self.step(step, made, rows, (tables, trees), features, out);
                return;
            }
            let mut table = tables.get_mut(made).map(std::mem::take).unwrap_or_default();
            table.clear();
            self.step(step, made, rows, (tables, trees), features, &mut table);
            if let Some(slot) = tables.get_mut(made) {
                *slot = table;
            }
        }
        out.extend_from_slice(table(tables, features, self.result));
    }

    fn step(
        &self,
        step: &Step,
        made: Value,
        rows: usize,
        (tables, scratch): (&[Vec<f32>], &mut TreeScratch),
        features: &[f32],
        out: &mut Vec<f32>,
    ) {
        let wide = |value: Value| self.columns.get(value).copied().unwrap_or(1).max(1);
        match step {
            Step::Trees { from, trees } => trees.run(scratch, table(tables, features, *from), out),
            Step::Unary { from, with } => out.extend(table(tables, features, *from).iter().map(|x| unary(*with, *x))),
            Step::Binary { left, right, with } => {
                let sides = [left, right].map(|side| match side {
                    Operand::Table(value) => (table(tables, features, *value), wide(*value), true),
                    Operand::Constant(values) => (values.as_slice(), values.len(), false),
                });
                binary(*with, rows, wide(made), sides, out);
            }
            Step::Softmax { from } => {
                let start = out.len();
                out.extend_from_slice(table(tables, features, *from));
                out.get_mut(start..).unwrap_or_default().chunks_exact_mut(wide(*from)).for_each(softmax);
            }
            Step::Select { from, columns } => {
                for row in table(tables, features, *from).chunks_exact(wide(*from)) {
                    out.extend(columns.iter().filter_map(|column| row.get(*column)));
                }
            }
            Step::Join { from } => {
                for row in 0..rows {
                    for value in from {
                        let columns = wide(*value);
                        let cells = table(tables, features, *value).get(row * columns..(row + 1) * columns);
                        out.extend_from_slice(cells.unwrap_or_default());
                    }
                }
            }
        }
    }
}

fn table<'a>(tables: &'a [Vec<f32>], features: &'a [f32], value: Value) -> &'a [f32] {
    if value == 0 { features } else { tables.get(value).map_or(&[], Vec::as_slice) }
}

/// A side is its values, its columns (one is for all) and whether it has rows of its own.
fn binary(with: Binary, rows: usize, columns: usize, sides: [(&[f32], usize, bool); 2], out: &mut Vec<f32>) {
    for row in 0..rows {
        let [left, right] = sides.map(|(values, columns, by_row)| {
            let start = if by_row { row * columns } else { 0 };
            values.get(start..start + columns).unwrap_or_default()
        });
        for column in 0..columns {
            let [left, right] = [left, right].map(|side| if side.len() == 1 { side.first() } else { side.get(column) });
            if let (Some(left), Some(right)) = (left, right) {
                out.push(apply(with, *left, *right));
            }
        }
    }
}

fn apply(with: Binary, left: f32, right: f32) -> f32 {
    match with {
        Binary::Add => left + right,
        Binary::Sub => left - right,
        Binary::Mul => left * right,
        Binary::Div => left / right,
        Binary::Pow => left.powf(right),
    }
}

fn unary(with: Unary, x: f32) -> f32 {
    match with {
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Sigmoid => logistic(x),
    }
}
