"""Pretrained models: where they come from (sources), what is known of them (cards), how they are cut (stages)."""
