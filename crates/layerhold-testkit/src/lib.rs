//! Reference model, generators, faulty file systems and contract suites for layerhold.
