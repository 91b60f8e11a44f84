//! A graph that is being rewritten: who makes a value, who uses it, what may be renamed, what nobody needs.
//!
//! Owns the bookkeeping, so that the rules beside it cannot leave a dangling name. Knows no pattern. Names that a
//! nested graph (a body of `Scan`, `Loop` or `If`) mentions are never renamed: it may take them from this graph.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::graph::{self, attribute, dims, is_standard, subgraphs};
use super::super::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::column::Column;

/// The domain of trees, encoders and other classical models.
pub(super) const ML: &str = "ai.onnx.ml";

/// A model taken apart; [`Editor::finish`] puts it together.
#[derive(Debug)]
pub(super) struct Editor {
    model: ModelProto,
    graph: GraphProto,
    // A node that went leaves a gap, so that numbers stay valid between two calls of `index`.
    nodes: Vec<Option<NodeProto>>,
    initialisers: BTreeMap<String, TensorProto>,
    producers: HashMap<String, usize>,
    users: HashMap<String, Vec<usize>>,
    inputs: HashSet<String>,
    outputs: HashSet<String>,
    pinned: HashSet<String>,
}

impl Editor {
    /// Takes a model apart; one without a graph has no nodes.
    pub(super) fn new(mut model: ModelProto) -> Self {
        let mut graph = model.graph.take().unwrap_or_default();
        let nodes: Vec<_> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        let tensors = std::mem::take(&mut graph.initializer);
        let mut pinned = HashSet::new();
        for body in nodes.iter().flatten().flat_map(|node| &node.attribute).flat_map(subgraphs) {
            mentioned(body, &mut pinned);
        }
        let mut editor = Self {
            initialisers: tensors.into_iter().map(|tensor| (tensor.name().to_owned(), tensor)).collect(),
            inputs: graph.input.iter().map(|value| value.name().to_owned()).collect(),
            outputs: graph.output.iter().map(|value| value.name().to_owned()).collect(),
            producers: HashMap::new(),
            users: HashMap::new(),
            model,
            graph,
            nodes,
            pinned,
        };
        editor.index();
        editor
    }

    fn index(&mut self) {
        self.nodes.retain(Option::is_some);
        self.producers.clear();
        self.users.clear();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                self.producers.insert(name.clone(), number);
            }
            for name in &node.input {
                let users = self.users.entry(name.clone()).or_default();
                if users.last() != Some(&number) {
                    users.push(number);
                }
            }
        }
    }

    /// How many nodes there are, those of nested graphs not counted.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// The numbers of the nodes of one operator; they hold until the next [`Editor::replace`] or [`Editor::sweep`].
    pub(super) fn of_kind(&self, kind: &str) -> Vec<usize> {
        let is = |node: &Option<NodeProto>| node.as_ref().is_some_and(|node| node.op_type() == kind);
        (0..self.nodes.len()).filter(|number| self.nodes.get(*number).is_some_and(is)).collect()
    }

    /// A node by its number.
    pub(super) fn node(&self, number: usize) -> Option<&NodeProto> {
        self.nodes.get(number)?.as_ref()
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, name: &str) -> Option<&NodeProto> {
        self.producers.get(name).and_then(|number| self.node(*number))
    }

    /// The one node that reads a value, when nothing else does and it is of this operator.
    pub(super) fn only_user(&self, name: &str, kind: &str) -> Option<(usize, &NodeProto)> {
        let [number] = self.users.get(name)?[..] else { return None };
        let free = !self.outputs.contains(name) && !self.pinned.contains(name);
        self.node(number).filter(|node| free && node.op_type() == kind).map(|node| (number, node))
    }

    /// Does nothing read this value, in or outside the graph?
    pub(super) fn is_unused(&self, name: &str) -> bool {
        !self.outputs.contains(name) && !self.pinned.contains(name) && self.users.get(name).is_none_or(Vec::is_empty)
    }

    /// Is it an output of the graph?
    pub(super) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// The description of an output.
    pub(super) fn output_mut(&mut self, name: &str) -> Option<&mut ValueInfoProto> {
        self.graph.output.iter_mut().find(|value| value.name() == name)
    }

    /// The description of an input.
    pub(super) fn input(&self, name: &str) -> Option<&ValueInfoProto> {
        self.graph.input.iter().find(|value| value.name() == name)
    }

    /// An initialiser, one that a caller may override included.
    pub(super) fn initialiser(&self, name: &str) -> Option<&TensorProto> {
        self.initialisers.get(name)
    }

    /// Shape and values of a constant that no caller can override; `None` for types that no rule computes with.
    pub(super) fn constant(&self, name: &str) -> Option<(Vec<usize>, Column)> {
        let made = || {
            let node = self.producer(name).filter(|node| node.op_type() == "Constant" && is_standard(node))?;
            attribute(node, "value").and_then(|value| value.t.as_deref())
        };
        let tensor = self.initialisers.get(name).filter(|_| !self.inputs.contains(name)).or_else(made)?;
        Some((dims(tensor).ok()?, Column::read(tensor)?))
    }

    /// A constant of whole numbers: axes, a shape, indices.
    pub(super) fn whole_numbers(&self, name: &str) -> Option<Vec<i64>> {
        if let (_, Column::I64(values)) = self.constant(name)? { Some(values) } else { None }
    }

    /// The version of the operators of a domain.
    pub(super) fn opset(&self, domain: &str) -> i64 {
        graph::opset(&self.model, domain).unwrap_or(1)
    }

    /// Says that operators of a domain are used, where the model does not say so yet.
    pub(super) fn import(&mut self, domain: &str, version: i64) {
        if graph::opset(&self.model, domain).is_none() {
            let set = OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
            self.model.opset_import.push(set);
        }
    }

    /// A name that nothing has.
    pub(super) fn fresh(&self, wish: &str) -> String {
        let taken = |name: &str| {
            self.inputs.contains(name)
                || self.pinned.contains(name)
                || self.initialisers.contains_key(name)
                || self.producers.contains_key(name)
        };
        let mut name = wish.to_owned();
        let mut number = 0_u64;
        while taken(&name) {
            number = number.saturating_add(1);
            name = format!("{wish}_{number}");
        }
        name
    }

    /// Adds a constant and says its name.
    pub(super) fn add_constant(&mut self, wish: &str, mut tensor: TensorProto) -> String {
        let name = self.fresh(wish);
        tensor.name = Some(name.clone());
        self.initialisers.insert(name.clone(), tensor);
        name
    }

    /// Puts nodes in the place of one.
    pub(super) fn replace(&mut self, number: usize, new: Vec<NodeProto>) {
        if number < self.nodes.len() {
            self.nodes.splice(number..=number, new.into_iter().map(Some));
        }
        self.index();
    }

    /// Lets a node read another value at one of its inputs.
    pub(super) fn set_input(&mut self, number: usize, position: usize, name: &str) {
        let node = self.nodes.get_mut(number).and_then(Option::as_mut);
        if let Some(input) = node.and_then(|node| node.input.get_mut(position)) {
            name.clone_into(input);
        }
        self.index();
    }

    /// Takes out a node whose only output equals its first input; false, and no change, where an output of the graph
    /// or a nested graph needs both names.
    pub(super) fn bypass(&mut self, number: usize) -> bool {
        let Some(node) = self.node(number) else { return false };
        let (Some(source), [target]) = (node.input.first().cloned(), &node.output[..]) else { return false };
        let target = target.clone();
        if self.pinned.contains(&source) || self.pinned.contains(&target) {
            return false;
        }
        let (keep, drop) = if self.outputs.contains(&target) { (target, source) } else { (source, target) };
        if self.outputs.contains(&drop) {
            return false;
        }
        if self.outputs.contains(&keep) && self.producers.get(&keep) == Some(&number) {
            // The output keeps its name, so the node before takes it over; an input cannot.
            let Some(maker) = self.producers.remove(&drop) else { return false };
            self.producers.insert(keep.clone(), maker);
            self.rename(maker, &drop, &keep, |node| &mut node.output);
        }
        if let Some(gap) = self.nodes.get_mut(number) {
            *gap = None;
        }
        let moved = self.users.remove(&drop).unwrap_or_default();
        for user in &moved {
            self.rename(*user, &drop, &keep, |node| &mut node.input);
        }
        let users = self.users.entry(keep).or_default();
        users.extend(moved);
        users.retain(|user| *user != number);
        users.sort_unstable();
        users.dedup();
        true
    }

    fn rename(&mut self, number: usize, old: &str, new: &str, part: fn(&mut NodeProto) -> &mut Vec<String>) {
        if let Some(node) = self.nodes.get_mut(number).and_then(Option::as_mut) {
            for name in part(node).iter_mut().filter(|name| *name == old) {
                new.clone_into(name);
            }
        }
    }

    /// Takes out nodes and constants that no output needs; says how many nodes went.
    pub(super) fn sweep(&mut self) -> usize {
        let mut needed = self.outputs.clone();
        let before = self.node_count();
        for slot in self.nodes.iter_mut().rev() {
            let Some(node) = slot else { continue };
            if !node.output.iter().any(|name| needed.contains(name)) {
                *slot = None;
                continue;
            }
            needed.extend(node.input.iter().cloned());
            for body in node.attribute.iter().flat_map(subgraphs) {
                mentioned(body, &mut needed);
            }
        }
        self.initialisers.retain(|name, _| needed.contains(name) || self.inputs.contains(name));
        self.index();
        before - self.node_count()
    }

    /// The model, whole again.
    pub(super) fn finish(mut self) -> ModelProto {
        self.index();
        let kept = |value: &ValueInfoProto| self.producers.contains_key(value.name());
        self.graph.value_info.retain(|value| kept(value) && !self.outputs.contains(value.name()));
        self.graph.node = self.nodes.into_iter().flatten().collect();
        self.graph.initializer = self.initialisers.into_values().collect();
        self.model.graph = Some(self.graph);
        self.model
    }
}

/// Every name that a nested graph reads.
fn mentioned(body: &GraphProto, names: &mut HashSet<String>) {
    names.extend(body.output.iter().map(|value| value.name().to_owned()));
    for node in &body.node {
        names.extend(node.input.iter().cloned());
        for inner in node.attribute.iter().flat_map(subgraphs) {
            mentioned(inner, names);
        }
    }
}
