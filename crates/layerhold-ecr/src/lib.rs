//! Amazon ECR operations, private and public, over the layerhold engine.
