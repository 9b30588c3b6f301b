//! What becomes of a manifest whose stored bytes do not have its digest.
//!
//! Its row says so, in one synced commit with the event; bytes, tags and references stay as they are. Putting the manifest
//! again replaces the bytes.

use crate::call::Call;
use crate::change::{Event, RepositoryEvent};
use crate::digest::Digest;
use crate::engine::{Inner, value};
use crate::error::Failure;
use crate::format::codec::Encoder;
use crate::format::keys::{self, Scope};
use crate::format::values::{ManifestRow, ManifestState, Row};
use crate::registry::registry_name;
use crate::repository::live_row;
use crate::scrub::ScrubFinding;
use crate::store::LockMode;
use crate::txn::{Commit, Decision, Stop, no_limit};

impl Inner {
    /// Says of a manifest that its bytes are damaged, if they still are under its lock. Durable when it returns; gives
    /// whether it was this call that said so.
    pub(crate) fn quarantine_manifest(&self, scope: Scope, digest: &Digest) -> Result<bool, Failure> {
        self.check_writable()?;
        let (repository_key, key) = (keys::repository(scope), keys::manifest(scope, digest));
        let bytes_key = keys::manifest_bytes(scope, digest);
        self.txn.run(&Call::anonymous(), &mut Encoder::bare(), no_limit::<Failure>, |attempt| {
            let registry = registry_name(attempt.view()?.as_ref(), scope.registry)?;
            let locks = attempt
                .lock::<Failure>(&[(&key, LockMode::Exclusive), (&repository_key, attempt.repository_mode())])?;
            let (Some(row), Some(repository)) =
                (ManifestRow::decode_optional(value(&locks, 0))?, live_row(value(&locks, 1))?)
            else {
                return Ok(Decision::Unchanged(false));
            };
            let bytes = attempt.view()?.get(&bytes_key)?.unwrap_or_default();
            if row.state == ManifestState::Quarantined || Digest::of(digest.algorithm(), &bytes) == *digest {
                return Ok(Decision::Unchanged(false));
            }
            let (repository, digest) = (repository.name, *digest);
            let event = match registry {
                Some(registry) => {
                    Event::Repository { registry, repository, event: RepositoryEvent::ManifestQuarantined { digest } }
                }
                None => {
                    let what = ScrubFinding::ManifestQuarantined { registry, repository, digest }.to_string();
                    Event::DamageFound { what }
                }
            };
            let mut commit = Commit::new(locks, event, true);
            let row = ManifestRow { state: ManifestState::Quarantined, ..row };
            commit.batch.put(&key, &row.encode());
            Ok::<Decision<bool>, Stop<Failure>>(commit.decided())
        })
    }
}
