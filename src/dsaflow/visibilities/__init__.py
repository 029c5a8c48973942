"""UVH5 in, Measurement Set out, flagging."""
