//! The layerhold registry server and its command line.
