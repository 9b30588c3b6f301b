//! Draws operations from bytes: the same bytes, the same operations.
//!
//! A fuzzer supplies the bytes of a whole [`Script`]; proptest supplies [`OPERATION_BYTES`] bytes for each operation, so
//! that it can drop operations one by one and shrink the bytes of those that stay. Zero bytes give the simplest choice
//! everywhere. The weights favour pushes that succeed, because a registry with nothing in it finds nothing.

use arbitrary::{Arbitrary, Result, Unstructured};
use proptest::strategy::Strategy;

use super::{
    Declared, ExpectedDigest, ExpectedManifest, Image, Operation, Position, Script, Share, StreamEnd, Through, pool,
};

/// Bytes that are enough to draw any operation.
pub const OPERATION_BYTES: usize = 16;

/// The most operations that one fuzzer input stands for.
pub const SCRIPT_OPERATIONS_MAX: usize = 256;

/// A proptest strategy for scripts of up to `operations_max` operations.
pub fn scripts(operations_max: usize) -> impl Strategy<Value = Script> {
    let operation = proptest::array::uniform16(proptest::num::u8::ANY).prop_map(|bytes| Operation::from_bytes(&bytes));
    let operations = proptest::collection::vec(operation, 1..=operations_max);
    (proptest::num::u8::ANY, operations).prop_map(|(start, mut operations)| {
        operations.splice(0..0, opening(start));
        Script { small_limits: start >= 180, operations }
    })
}

/// Two repositories to begin with: few operations find anything before there are some.
fn opening(start: u8) -> [Operation; 2] {
    let mutability = (start / 16) % pool::MUTABILITY_COUNT;
    [
        Operation::CreateRepository { repository: 0, mutability, sparse: start % 16 == 15 },
        Operation::CreateRepository { repository: 1, mutability: 0, sparse: start % 2 == 1 },
    ]
}

impl Operation {
    /// The operation that these bytes stand for; missing bytes count as zero.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::arbitrary(&mut Unstructured::new(bytes)).unwrap_or(Self::Maintain)
    }
}

impl<'a> Arbitrary<'a> for Script {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let start = u.arbitrary()?;
        let mut operations = opening(start).to_vec();
        while !u.is_empty() && operations.len() < SCRIPT_OPERATIONS_MAX {
            operations.push(Operation::arbitrary(u)?);
        }
        Ok(Self { small_limits: start >= 180, operations })
    }
}

/// Which of the choices below are about uploads and blobs.
const UPLOAD_CHOICES: std::ops::RangeInclusive<u8> = 26..=117;

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let choice = u.int_in_range(0..=239)?;
        Self::of_choice(choice, u)
    }
}

impl Operation {
    /// An operation on uploads or blobs, or one that happens to the whole engine.
    pub fn arbitrary_upload(u: &mut Unstructured<'_>) -> Result<Self> {
        match u.int_in_range(0..=15_u8)? {
            0 => Ok(Self::Reopen { close: u.arbitrary()? }),
            1 => Ok(Self::AdvanceClock { step: skewed(u, 4)? }),
            2 => Ok(Self::Repeat),
            3 => Ok(Self::Maintain),
            _ => {
                let choice = u.int_in_range(UPLOAD_CHOICES)?;
                Self::of_choice(choice, u)
            }
        }
    }

    fn of_choice(choice: u8, u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match choice {
            0..=9 => {
                Self::CreateRepository { repository: skewed(u, 4)?, mutability: mutability(u)?, sparse: u.ratio(1, 4)? }
            }
            10 => Self::DeleteRepository { repository: repository(u)?, force: u.arbitrary()? },
            11..=13 => Self::DeleteRepository { repository: 1 + skewed(u, 3)?, force: true },
            14..=16 => Self::DescribeRepository { repository: repository(u)? },
            17..=18 => Self::ListRepositories { limit: limit(u)? },
            19..=23 => Self::PutTagMutability { repository: repository(u)?, mutability: mutability(u)? },
            24..=25 => Self::PutAttributes { repository: repository(u)?, value: u.int_in_range(0..=3)? },
            26..=35 => Self::BeginUpload {
                repository: repository(u)?,
                content: content(u)?,
                sha512: u.ratio(1, 6)?,
                caller: u8::from(u.ratio(1, 8)?),
            },
            36..=57 => Self::AppendPart {
                upload: upload(u)?,
                through: through(u)?,
                at: position(u)?,
                share: share(u)?,
                declared: *choose(u, &[(14, Declared::Right), (1, Declared::Short), (1, Declared::Long)])?,
            },
            58..=65 => Self::StreamUpload {
                upload: upload(u)?,
                through: through(u)?,
                at: if u.ratio(1, 2)? { None } else { Some(position(u)?) },
                share: share(u)?,
                end: *choose(u, &[(2, StreamEnd::Finish), (2, StreamEnd::Complete), (1, StreamEnd::CommitAndDrop)])?,
            },
            66..=69 => Self::UploadStatus { upload: upload(u)?, through: through(u)? },
            70..=79 => Self::CompleteUpload {
                upload: upload(u)?,
                through: through(u)?,
                expected: expected(u)?,
                minimum: u.ratio(1, 4)?,
                refuse_empty: u.ratio(1, 2)?,
            },
            80..=81 => Self::CancelUpload { upload: upload(u)?, through: through(u)? },
            82..=104 => Self::PutBlob { repository: repository(u)?, content: content(u)?, expected: expected(u)? },
            105..=110 => Self::CheckBlobs { repository: repository(u)?, blobs: [blob(u)?, blob(u)?, blob(u)?] },
            111..=117 => {
                Self::ReadBlob { repository: repository(u)?, blob: blob(u)?, offset: offset(u)?, len: offset(u)? }
            }
            118..=122 => Self::MountBlob { repository: repository(u)?, from: repository(u)?, blob: blob(u)? },
            123..=126 => Self::DeleteBlob { repository: repository(u)?, blob: blob(u)? },
            127..=128 => Self::GrantDownload { repository: repository(u)?, blob: blob(u)? },
            129..=130 => Self::OpenDownload { grant: upload(u)? },
            131..=152 => Self::PutManifest {
                repository: repository(u)?,
                document: document(u)?,
                tags: some_of(u, pool::TAG_COUNT)?,
                expected: *choose(
                    u,
                    &[(4, ExpectedManifest::Any), (2, ExpectedManifest::Right), (1, ExpectedManifest::Wrong)],
                )?,
            },
            153..=168 => Self::PushImage {
                repository: repository(u)?,
                document: document(u)?,
                tag: if u.ratio(3, 4)? { Some(tag(u)?) } else { None },
            },
            169..=174 => Self::GetManifest { repository: repository(u)?, image: image(u)?, pull: u.arbitrary()? },
            175..=177 => Self::HeadManifest { repository: repository(u)?, image: image(u)? },
            178..=187 => Self::DeleteImage { repository: repository(u)?, image: image(u)? },
            188..=192 => Self::Untag { repository: repository(u)?, tag: tag(u)? },
            193..=194 => Self::ResolveImage { repository: repository(u)?, image: image(u)? },
            195..=198 => Self::ListTags { repository: repository(u)?, limit: limit(u)? },
            199..=201 => {
                Self::ListTagsAfter { repository: repository(u)?, last: u.int_in_range(0..=7)?, limit: limit(u)? }
            }
            202..=206 => {
                Self::ListImages { repository: repository(u)?, filter: u.int_in_range(0..=2)?, limit: limit(u)? }
            }
            207..=211 => {
                Self::DescribeImages { repository: repository(u)?, filter: u.int_in_range(0..=2)?, limit: limit(u)? }
            }
            212..=214 => Self::DescribeImage { repository: repository(u)?, image: image(u)? },
            215..=219 => Self::ListReferrers {
                repository: repository(u)?,
                subject: document(u)?,
                artifact_types: some_of(u, 3)?,
                limit: limit(u)?,
            },
            220..=222 => Self::TagHistory { repository: repository(u)?, tag: tag(u)?, limit: limit(u)? },
            223..=227 => Self::Repeat,
            228..=231 => Self::AdvanceClock { step: skewed(u, 4)? },
            232..=234 => Self::Maintain,
            _ => Self::Reopen { close: u.arbitrary()? },
        })
    }
}

/// A number below `count`, small ones more often: most of a script should meet in one repository.
fn skewed(u: &mut Unstructured<'_>, count: u8) -> Result<u8> {
    let drawn = u32::from(u.arbitrary::<u8>()?);
    let number = drawn * drawn * u32::from(count) / (256 * 256);
    Ok(u8::try_from(number).unwrap_or(0))
}

fn repository(u: &mut Unstructured<'_>) -> Result<u8> {
    let drawn: u8 = u.arbitrary()?;
    Ok(if drawn < 200 { 0 } else { (drawn - 200) / 20 })
}

fn mutability(u: &mut Unstructured<'_>) -> Result<u8> {
    skewed(u, pool::MUTABILITY_COUNT)
}

fn tag(u: &mut Unstructured<'_>) -> Result<u8> {
    skewed(u, pool::TAG_COUNT)
}

fn content(u: &mut Unstructured<'_>) -> Result<u8> {
    Ok(if u.arbitrary()? { skewed(u, pool::CONTENT_COUNT)? } else { u.int_in_range(0..=pool::CONTENT_COUNT - 1)? })
}

/// Mostly a sha256 digest of the pool; see [`pool::blob_digest`].
fn blob(u: &mut Unstructured<'_>) -> Result<u8> {
    Ok(match u.int_in_range(0..=19_u8)? {
        0..=16 => skewed(u, pool::CONTENT_COUNT)?,
        17..=18 => pool::CONTENT_COUNT + skewed(u, pool::CONTENT_COUNT)?,
        _ => 2 * pool::CONTENT_COUNT,
    })
}

fn document(u: &mut Unstructured<'_>) -> Result<u8> {
    skewed(u, pool::document_count() + 1)
}

fn upload(u: &mut Unstructured<'_>) -> Result<u8> {
    Ok(u.arbitrary::<u8>()?.saturating_sub(200) / 12)
}

fn limit(u: &mut Unstructured<'_>) -> Result<u8> {
    u.int_in_range(1..=5)
}

fn offset(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(*choose(u, &[(3, 0), (1, 1), (2, 1_000), (1, 4_096), (1, 65_535), (2, 65_536), (1, 131_073), (1, 400_000)])?)
}

fn through(u: &mut Unstructured<'_>) -> Result<Through> {
    Ok(*choose(u, &[(18, Through::Own), (1, Through::OtherRepository), (1, Through::OtherCaller)])?)
}

fn position(u: &mut Unstructured<'_>) -> Result<Position> {
    Ok(*choose(u, &[(12, Position::Next), (4, Position::Latest), (1, Position::Start), (1, Position::Gap)])?)
}

fn share(u: &mut Unstructured<'_>) -> Result<Share> {
    let shares =
        [(5, Share::Rest), (9, Share::Half), (2, Share::One), (1, Share::Nothing), (1, Share::Over), (1, Share::Wrong)];
    Ok(*choose(u, &shares)?)
}

fn expected(u: &mut Unstructured<'_>) -> Result<ExpectedDigest> {
    let choices = [
        (5, ExpectedDigest::Computed),
        (6, ExpectedDigest::Right),
        (2, ExpectedDigest::OtherAlgorithm),
        (1, ExpectedDigest::Wrong),
        (3, ExpectedDigest::AnyWithRight),
        (1, ExpectedDigest::AnyWrong),
    ];
    Ok(*choose(u, &choices)?)
}

fn image(u: &mut Unstructured<'_>) -> Result<Image> {
    Ok(match u.int_in_range(0..=5_u8)? {
        0 | 1 => Image::Tag(tag(u)?),
        2 | 3 => Image::Digest(document(u)?),
        _ => Image::Both(tag(u)?, document(u)?),
    })
}

/// Up to three numbers below `count`, repetitions included.
fn some_of(u: &mut Unstructured<'_>, count: u8) -> Result<Vec<u8>> {
    let len = *choose(u, &[(4, 1), (2, 0), (1, 2), (1, 3)])?;
    (0..len).map(|_| skewed(u, count)).collect()
}

/// One of the choices, each as often as its weight says.
fn choose<'c, T>(u: &mut Unstructured<'_>, choices: &'c [(u32, T)]) -> Result<&'c T> {
    let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut drawn = u.int_in_range(0..=total - 1)?;
    for (weight, choice) in choices {
        match drawn.checked_sub(*weight) {
            Some(rest) => drawn = rest,
            None => return Ok(choice),
        }
    }
    unreachable!("the weights add up to the total")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use layerhold::manifest::document::{DocumentLimits, ManifestDocument};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::model::{Answer, Limits, Model, Now, Terms};
    use crate::operation::request::{Past, RegistryRequest, Request};

    #[test]
    fn zero_bytes_give_the_simplest_operation() {
        let first = Operation::CreateRepository { repository: 0, mutability: 0, sparse: true };
        assert_eq!(Operation::from_bytes(&[0; OPERATION_BYTES]), first);
        assert_eq!(Operation::from_bytes(&[]), first);
    }

    #[test]
    fn documents_are_what_their_names_say() {
        for number in 0..pool::document_count() {
            let document = pool::document(number);
            let limits = DocumentLimits { schema1: document.schema1, ..DocumentLimits::default() };
            let parsed = ManifestDocument::parse(&document.bytes, document.media_type.as_ref(), &limits);
            let wrong = ["where it is not", "as an index", "no media", "at once", "duplicate", "not JSON", "nothing"];
            let malformed =
                wrong.iter().any(|wrong| document.what.contains(wrong)) && document.what != "an index of nothing";
            assert_eq!(parsed.is_err(), malformed, "{}: {parsed:?}", document.what);
        }
    }

    #[test]
    fn saved_operations_come_back() {
        let mut runner = TestRunner::deterministic();
        let script = scripts(300).new_tree(&mut runner).expect("a script").current();
        let saved = serde_json::to_string(&script).expect("a script is JSON");
        assert_eq!(serde_json::from_str::<Script>(&saved).expect("and back"), script);
    }

    /// Random scripts must reach every answer and every refusal, or they prove less than they seem to.
    #[test]
    fn scripts_reach_every_answer() {
        let mut runner = TestRunner::deterministic();
        let mut reached: BTreeMap<String, u64> = BTreeMap::new();
        let (mut requests, mut refused) = (0_u64, 0_u64);
        for _ in 0..400 {
            let script = scripts(200).new_tree(&mut runner).expect("a script").current();
            let mut past = Past::default();
            let mut model =
                Model::new(if script.small_limits { Limits::small() } else { Limits::ecr_private() }, Terms::TEST);
            let mut now = Now::default();
            for operation in &script.operations {
                for request in operation.requests(&mut past) {
                    if let Request::Registry(RegistryRequest::AdvanceClock { ms }) = request {
                        now.engine_ms += ms;
                        now.wall_ms += ms;
                    }
                    let answer = model.answer(&request, now);
                    past.note(&request, &answer);
                    requests += 1;
                    let name = match &answer {
                        Answer::Refused(refusal) => {
                            refused += 1;
                            format!("{refusal:?}")
                        }
                        answer => format!("{answer:?}"),
                    };
                    let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
                    *reached.entry(name).or_default() += 1;
                }
            }
        }
        println!("{refused} of {requests} requests refused; {reached:#?}");
        assert!(refused * 2 < requests, "{refused} of {requests} requests were refused");
        let never: Vec<_> =
            ANSWERS.split_whitespace().filter(|name| reached.get(*name).is_none_or(|&n| n < 3)).collect();
        assert!(never.is_empty(), "hardly ever reached: {never:?} in {reached:#?}");
    }

    const ANSWERS: &str = "Done Repository Repositories Session Accepted Completed Blobs Bytes Mounted Granted ManifestPut Manifest \
        Descriptor DeletedImage Digest Tags Images ImageDetails Referrers History RepositoryNotFound \
        RepositoryAlreadyExists RepositoryNotEmpty RepositoryLimit UploadNotFound OutOfOrder Replayed LengthMismatch \
        EmptyPart TooManyParts BlobTooLarge PartTooLarge EmptyUpload PartTooSmall UploadDigestMismatch BlobNotFound \
        MountSourceNotFound BlobReferenced Malformed ManifestDigestMismatch TagImmutable ImageLimit TagLimit \
        BlobsMissing ManifestsMissing ManifestNotFound TagNotFound TagMismatch ReferencedBy GrantExpired";
}
