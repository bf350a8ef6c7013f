"""x"""
def share_programs(optimizer):
  for compiled, plain in (
    ("_compiled_update", "_update_flat"),
    ("_compiled_mask", "_mask_flat"),
  ):
    if hasattr(optimizer, compiled):
      setattr(optimizer, compiled, getattr(optimizer, plain))
  return optimizer
