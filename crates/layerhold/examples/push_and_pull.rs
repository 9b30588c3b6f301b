//! Pushes an image into a store and pulls it back: the whole life of an image in one program.

use layerhold::manifest::ManifestRead;
use layerhold::{
    Call, Engine, Expected, MediaType, Options, PutManifest, Reference, RegistryName, RepositoryName,
    RepositorySettings, Tag,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("layerhold-example-{}", std::process::id()));
    let engine = Engine::create(&dir, Options::default())?;
    let call = Call::anonymous();

    let registry = RegistryName::parse("example")?;
    engine.create_registry(&registry, &call)?;
    let name = RepositoryName::parse("team/app")?;
    let registry = engine.registry(&registry);
    registry.create_repository(&name, &RepositorySettings::default(), &call)?;
    let repository = registry.repository(&name);

    // Push: the blobs first, then the manifest that names them, with a tag.
    let layer = repository.put_blob(&vec![7; 3 << 20], &Expected::Computed, &call)?;
    let config = repository.put_blob(b"{}", &Expected::Computed, &call)?;
    let document = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        config.digest,
        config.size,
        layer.digest,
        layer.size,
    );
    let tag = Tag::parse("v1")?;
    let put = repository.put_manifest(&PutManifest::new(document).with_tag(tag.clone()), &call)?;
    println!("pushed {} as {tag}", put.digest);

    // Pull: the manifest by its tag, then each blob, verified as it is read.
    let manifest = repository.manifest(&Reference::Tag(tag), ManifestRead::Pull)?;
    let reader = repository.blob(&layer.digest)?;
    let mut bytes = vec![0; usize::try_from(reader.size())?];
    let read = reader.read_at(0, &mut bytes)?;
    println!("pulled {} bytes of manifest and {read} bytes of layer", manifest.bytes.len());

    engine.close()?;
    drop((reader, repository, registry, engine));
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
