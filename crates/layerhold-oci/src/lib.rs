//! OCI distribution over the layerhold engine.
