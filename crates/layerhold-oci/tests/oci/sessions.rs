//! Random upload sessions against the simplest model of one: the bytes that have been accepted.
//!
//! The seed is fixed and printed, so that every run is the same; a failure names its session and step.

use crate::fixture::{Oci, noise};
use http::StatusCode;
use layerhold::Digest;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn held(len: usize) -> String {
    format!("0-{}", len.saturating_sub(1))
}

/// Goal: whatever a client does with a session, its range tells the truth and the blob is what was accepted. Method: a few
/// hundred sessions of random steps, good and bad ones, each answer compared with the model's.
#[test]
fn a_session_is_what_was_accepted() {
    let seed = 0x7365_7373_696f_6e73_u64;
    println!("seed={seed}");
    let mut random = Random(seed);
    let oci = Oci::with("app");
    for session in 0..150_u64 {
        let bytes = noise(60_000, session + 1);
        let location = oci.begin("app");
        let patch = format!("PATCH {location}");
        let mut accepted = 0;
        for step in 0..random.below(12) {
            let at = format!("session={session} step={step} accepted={accepted}");
            let left = bytes.len() - accepted;
            let len = 1 + random.below(9_000).min(left.saturating_sub(1));
            if left == 0 {
                break;
            }
            let piece = 1 + random.below(3_000);
            let chunk = &bytes[accepted..accepted + len];
            let range = format!("{accepted}-{}", accepted + len - 1);
            let streamed = random.below(2) == 0;
            let send = |headers: &[(&str, &str)], body: &[u8]| {
                if streamed { oci.stream(&patch, headers, body, piece) } else { oci.ask(&patch, headers, body) }
            };
            match random.below(8) {
                0 | 1 => {
                    let answer = send(&[("content-range", &range)], chunk).expect(StatusCode::ACCEPTED);
                    accepted += len;
                    assert_eq!(answer.header("range"), held(accepted), "{at}");
                }
                2 | 3 => {
                    let answer = send(&[], chunk).expect(StatusCode::ACCEPTED);
                    accepted += len;
                    assert_eq!(answer.header("range"), held(accepted), "{at}");
                }
                4 => {
                    // A gap, or a repetition.
                    let first = if accepted > 0 && streamed { accepted - 1 } else { accepted + 1 };
                    let range = format!("{first}-{}", first + len - 1);
                    let answer = send(&[("content-range", &range)], chunk);
                    assert_eq!(answer.header("range"), held(accepted), "{at}");
                    answer.refuse(416, "BLOB_UPLOAD_INVALID");
                }
                5 => {
                    let range = format!("{accepted}-{}", accepted + len);
                    send(&[("content-range", &range)], chunk).refuse(400, "SIZE_INVALID");
                }
                6 => {
                    oci.lose(&patch, &[("content-range", &range)], &chunk[..len.div_ceil(2)]);
                    accepted += len.div_ceil(2);
                }
                _ => {
                    oci.ask(&patch, &[("content-range", "nonsense")], chunk).refuse(400, "BLOB_UPLOAD_INVALID");
                }
            }
            let status = oci.get(&location).expect(StatusCode::NO_CONTENT);
            assert_eq!(status.header("range"), held(accepted), "{at}");
        }
        let digest = Digest::sha256(&bytes);
        let put = format!("PUT {location}?digest={digest}");
        let rest = &bytes[accepted..];
        let answer = if random.below(2) == 0 { oci.ask(&put, &[], rest) } else { oci.stream(&put, &[], rest, 4_096) };
        answer.expect(StatusCode::CREATED);
        assert_eq!(oci.get(&format!("/v2/app/blobs/{digest}")).body, bytes, "session={session}");
        let (first, len) = (random.below(bytes.len()), 1 + random.below(bytes.len()));
        let part = oci.ask(
            &format!("GET /v2/app/blobs/{digest}"),
            &[("range", &format!("bytes={first}-{}", first + len - 1))],
            b"",
        );
        let end = bytes.len().min(first + len);
        assert_eq!(part.expect(StatusCode::PARTIAL_CONTENT).body, bytes[first..end], "session={session}");
    }
}
