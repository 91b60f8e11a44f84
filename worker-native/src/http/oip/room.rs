//! Room in memory for bodies: each takes it as its bytes arrive, so a claimed length holds nothing.

use std::sync::Arc;

use shared::problem::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ApiError;

/// Bytes of one permit: a semaphore counts in 32 bits for each body.
const UNIT: usize = 4_096;

/// Room for the bodies of all requests.
#[derive(Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// The room one body has taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Semaphore>,
    permits: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS))))
    }

    pub(super) fn none_taken(&self) -> Taken {
        Taken { room: Arc::clone(&self.0), permits: None, bytes: 0 }
    }
}

impl Taken {
    /// Bytes taken so far.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes room for more bytes.
    ///
    /// # Errors
    /// 503 where all bodies together hold as much as they may: this one is not read further.
    pub(super) fn grow(&mut self, more: usize) -> Result<(), ApiError> {
        self.bytes = self.bytes.saturating_add(more);
        let held = self.permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = self.bytes.div_ceil(UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let full = || ApiError::new(ErrorCode::Overloaded, "no room for this body at present (OIP_BODIES_BYTES)");
        let missing = u32::try_from(missing).map_err(|_| full())?;
        let new = Arc::clone(&self.room).try_acquire_many_owned(missing).map_err(|_| full())?;
        match &mut self.permits {
            Some(permits) => permits.merge(new),
            none => *none = Some(new),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_as_bytes_come_and_given_back() {
        let room = Room::new(3 * UNIT);
        let mut first = room.none_taken();
        first.grow(1).unwrap();
        first.grow(UNIT - 1).unwrap();
        assert_eq!(room.0.available_permits(), 2);
        first.grow(1).unwrap();
        let mut second = room.none_taken();
        second.grow(UNIT).unwrap();
        assert_eq!(second.grow(1).unwrap_err().code, ErrorCode::Overloaded);
        drop(first);
        second.grow(2 * UNIT).unwrap_err();
        drop(second);
        assert_eq!(room.0.available_permits(), 3);
    }
}
