//! Rewrites slow ONNX exports into fast graphs that answer the same.
//!
//! Owns which rewrites there are and their order. It runs nothing and trusts no pattern beyond what it has checked:
//! what is not understood stays as it is, and whoever serves the result compares it with the original first (the
//! command `models optimize` does). `models/onnx_tools` is the same in Python; the same fixtures test both.

mod advice;
mod build;
mod clean;
mod column;
mod distances;
mod edit;
mod forest;
mod outputs;
mod signs;

use serde::Serialize;

pub use advice::advice;
pub use clean::Cleaned;
pub use distances::Distances;

use super::proto::ModelProto;
use edit::Editor;

/// The classes of a former `ZipMap`, in the order of the columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Classes {
    /// Classes that are whole numbers.
    Numbers(Vec<i64>),
    /// Classes with names.
    Names(Vec<String>),
}

impl Classes {
    /// How many classes there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Numbers(classes) => classes.len(),
            Self::Names(classes) => classes.len(),
        }
    }
}

/// An output that was a list of maps and is now a tensor `[rows, classes]` of float32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unzipped {
    /// The output; its name stays.
    pub output: String,
    /// What its columns are.
    pub classes: Classes,
}

/// An output that was `[rows * columns, 1]` and is now `[rows, columns]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// The output; its name stays.
    pub output: String,
    /// How many columns it has.
    pub columns: usize,
}

/// What was done to a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Nodes of the graph before, those of nested graphs not counted.
    pub nodes_before: usize,
    /// Nodes of the graph after.
    pub nodes_after: usize,
    /// Trees that became one ensemble.
    pub trees: usize,
    /// Loops over distances that became something faster.
    pub distances: usize,
    /// Label computations that became `Where`.
    pub labels: usize,
    /// Changes of sign that went into the node beside them.
    pub signs: usize,
    /// Outputs that were maps.
    pub unzipped: Vec<Unzipped>,
    /// Outputs that had lost their columns.
    pub repaired: Vec<Repaired>,
    /// Nodes that did nothing.
    pub cleaned: Cleaned,
}

impl Done {
    /// Was anything rewritten?
    #[must_use]
    pub fn anything(&self) -> bool {
        let nodes = Self { nodes_before: self.nodes_before, nodes_after: self.nodes_after, ..Self::default() };
        *self != nodes
    }
}

/// Rewrites a model and says what was done. A model of which nothing is understood comes back as it went in, apart
/// from the order of its constants.
#[must_use]
pub fn optimize(model: ModelProto, form: Distances) -> (ModelProto, Done) {
    let mut editor = Editor::new(model);
    let mut done = Done { nodes_before: editor.node_count(), ..Done::default() };
    let first = clean::clean(&mut editor);
    done.unzipped = outputs::unzip(&mut editor);
    done.trees = forest::fuse(&mut editor);
    done.distances = distances::replace_loops(&mut editor, form);
    done.repaired = outputs::repair_reshapes(&mut editor);
    done.labels = outputs::shorten_labels(&mut editor);
    // A sign alone is no reason to touch a graph that is otherwise as it should be.
    if done.trees + done.distances > 0 {
        done.signs = signs::fold(&mut editor);
    }
    done.cleaned = first.plus(clean::clean(&mut editor));
    done.nodes_after = editor.node_count();
    (editor.finish(), done)
}

#[cfg(test)]
mod tests;
