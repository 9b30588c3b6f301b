//! Workloads shared by the criterion targets.
