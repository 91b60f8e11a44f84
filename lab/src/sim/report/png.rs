//! Pictures of the charts, for places that show no SVG.

use anyhow::Context;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

/// Pixels for each unit of a drawing: sharp on a dense screen.
const SCALE: f32 = 2.0;

/// Draws SVGs; reads the machine's fonts once.
#[derive(Debug)]
pub(crate) struct Painter {
    options: Options<'static>,
}

impl Painter {
    /// A painter with this machine's fonts; where there are none, pictures have no words.
    pub(crate) fn new() -> Self {
        let mut options = Options::default();
        options.fontdb_mut().load_system_fonts();
        Self { options }
    }

    /// A drawing as PNG.
    ///
    /// # Errors
    /// When the drawing cannot be read or is too large.
    pub(crate) fn png(&self, svg: &str) -> anyhow::Result<Vec<u8>> {
        let tree = Tree::from_str(svg, &self.options).context("the chart is no SVG")?;
        let size = tree.size().to_int_size().scale_by(SCALE).context("the chart is too large")?;
        let mut picture = Pixmap::new(size.width(), size.height()).context("the chart is too large")?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut picture.as_mut());
        picture.encode_png().context("the picture cannot be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::report::svg::{Chart, Line};

    #[test]
    fn a_chart_becomes_a_picture_twice_its_size() {
        let line = Line { name: "one".to_owned(), points: vec![(0.0, 0.0), (1.0, 2.0)], steps: false };
        let svg = Chart { lines: vec![line], ..Chart::default() }.svg();
        let png = Painter::new().png(&svg).unwrap();
        let pixels = Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (1_800, 840));
        assert!(pixels.pixels().iter().any(|pixel| pixel.red() == 0 && pixel.blue() > 0x80), "the line is blue");
    }
}
