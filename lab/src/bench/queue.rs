//! The queue beside other people's, in one run.

pub(crate) mod work;
