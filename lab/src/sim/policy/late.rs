//! Research: one batch at a time, protected by what waits.
use super::batching::drop_hopeless;
use super::{Batches, Bench, Choice, EdgeJob, Picture, Policy, Seen};
use crate::sim::queue::Claimed;
use crate::sim::world::World;

#[derive(Debug, Clone)]
pub(crate) struct Late { pub(crate) p: Vec<f64>, rate: f64, idc: f64 }
impl Late {
    pub(crate) fn new() -> Self {
        let p = std::env::var("LATE").unwrap_or_default().split(',').filter_map(|x| x.parse().ok()).collect();
        Self { p, rate: 0.0, idc: 1.0 }
    }
    fn p(&self, i: usize, d: f64) -> f64 { self.p.get(i).copied().unwrap_or(d) }
}
impl Policy for Late {
    fn tick(&mut self, seen: &Seen, _w: &World) {
        let r: f64 = seen.arrived.iter().map(|a| f64::from(*a)).sum::<f64>() * 4.0;
        self.rate += 0.25 * (r - self.rate);
        self.idc += 0.25 * (seen.dispersion.max(0.1) - self.idc);
    }
    fn edge(&mut self, _job: EdgeJob, _picture: Picture<'_>, _world: &World) -> Choice { Choice::sure(0) }
    fn claim(&mut self, _bench: &Bench<'_>, _held: usize) -> usize { self.p(3, 64.0) as usize }
    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        let t = &bench.world.tiers;
        let sig = 1.0 + self.p(0, 2.0) * bench.world.noise;
        let q = held.len() + bench.queue.len(None);
        let over = if q > t[0].cap { t[0].batch_us(t[0].cap) * sig } else { t[0].batch_us(1) };
        if drop_hopeless(held, bench, over, out) { return; }
        let c = bench.alive.max(1) as f64;
        let dear = t.len() - 1;
        let slack = |j: &Claimed| j.finish_by_us.saturating_sub(bench.now_us) as f64;
        let reserve = self.p(1, 0.15);
        let sf = t[0].per_job_us() * bench.pace;
        let fast8 = t[0].batch_us(t[0].cap);
        let lam = self.rate / 1e6;
        let d = bench.world.shortest_deadline_us() as f64 - 2_000.0;
        let mut behind: Vec<u64> = Vec::new();
        for lane in bench.queue.lanes(None) { behind.extend(lane.iter().map(|j| j.finish_by_us)); }
        behind.sort_unstable();
        let bmax = (1..=t[dear].cap).rev().find(|b| t[dear].batch_us(*b) * sig + fast8 <= d * (1.0 - self.p(8, 0.15))).unwrap_or(1);
        let b = held.len().min(bmax);
        let dur = t[dear].batch_us(b) * bench.pace * sig;
        // dear candidates by value, then urgency
        let top = |first_us: f64, out: &[usize]| -> Vec<usize> {
            let mut can: Vec<usize> = (0..held.len()).filter(|i| !out.contains(i) && slack(&held[*i]) >= dur + first_us).collect();
            can.sort_by(|x, y| held[*y].value.total_cmp(&held[*x].value).then(x.cmp(y)));
            can.truncate(b);
            can
        };
        let fits = |first_us: f64, can: &[usize], urgent: &[usize]| -> Option<usize> {
            // the first of the rest that dear would make late
            let mut n = 0.0;
            let mut bi = 0;
            let check = |by: u64, n: f64| {
                let s = by.saturating_sub(bench.now_us) as f64;
                first_us + dur + n * sf / c + fast8 <= s * (1.0 - reserve)
            };
            for i in 0..held.len() {
                if can.contains(&i) || urgent.contains(&i) { continue; }
                n += 1.0;
                if !check(held[i].finish_by_us, n) { return Some(i); }
            }
            for by in &behind { n += 1.0; bi += 1; let _ = bi; if !check(*by, n) { return Some(usize::MAX); } }
            let k = lam * (dur + first_us) + self.p(2, 3.0) * (self.idc * lam * dur).sqrt();
            if (n + k) * sf / c + fast8 > d * (1.0 - self.p(5, 0.3)) { return Some(usize::MAX); }
            None
        };
        let mut urgent: Vec<usize> = Vec::new();
        loop {
            let first = t[0].batch_us(urgent.len()) * bench.pace * sig;
            let can = top(first, &urgent);
            let min = self.p(4, 8.0) as usize;
            if can.len() < b.min(min) || can.is_empty() { break; }
            match fits(first, &can, &urgent) {
                None => {
                    if urgent.is_empty() {
                        let mut can = can; can.sort_unstable();
                        out.runs.push((dear as u8, can.len() as u16));
                        out.order.extend(can.iter().map(|i| *i as u16));
                        return;
                    }
                    // fill with what is worth least, leaving the candidates
                    let lowest = held.iter().map(|j| j.value).fold(f32::INFINITY, f32::min);
                    for i in 0..held.len() {
                        if urgent.len() >= t[0].cap || self.p(7, 1.0) < 0.5 { break; }
                        if !urgent.contains(&i) && !can.contains(&i) && held[i].value <= lowest { urgent.push(i); }
                    }
                    urgent.sort_unstable();
                    out.runs.push((0, urgent.len() as u16));
                    out.order.extend(urgent.iter().map(|i| *i as u16));
                    return;
                }
                Some(i) if i < held.len() && urgent.len() < t[0].cap => urgent.push(i),
                Some(_) => break,
            }
        }
        // fast: EDF, holding back what is worth more and can wait
        let low = held.iter().map(|j| j.value).fold(f32::INFINITY, f32::min);
        let hold = t[dear].batch_us(t[dear].cap) * sig * self.p(6, 1.3) + q as f64 * sf / c;
        let keep = |j: &Claimed| j.value > low && slack(j) > hold;
        let mut pick: Vec<usize> = (0..held.len()).filter(|i| !keep(&held[*i])).take(t[0].cap).collect();
        if pick.is_empty() { pick = (0..held.len().min(t[0].cap)).collect(); }
        out.runs.push((0, pick.len() as u16));
        out.order.extend(pick.iter().map(|i| *i as u16));
    }
}
