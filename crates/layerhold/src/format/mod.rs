//! Every byte that reaches the disk is spelled here.
