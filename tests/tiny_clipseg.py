"""A complete tiny CLIPSeg checkpoint: random weights in the files of a published one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build(folder: Path) -> Path:
    """A CLIPSeg of 60,000 random weights with tokenizer and image processor, in the files of a published one."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ca", "car</w>", START, END]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    texts = {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END], "pad_token_id": vocabulary[END]}
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config=small | texts | {"vocab_size": len(pieces), "num_hidden_layers": 2, "max_position_embeddings": 40},
        vision_config=small | {"num_hidden_layers": 4, "image_size": 32, "patch_size": 16},
        projection_dim=24,
        extract_layers=[1, 2, 3],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    torch.manual_seed(0)
    model = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:  # as it is made, phrases hardly matter
                weight.normal_(std=1.0 if "embedding" in name else 1.5 * weight[0].numel() ** -0.5)
    model.save_pretrained(folder)
    tokens = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END, "model_max_length": 40}
    pictures = {"size": {"height": 64, "width": 64}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.23] * 3}
    for name, content in {
        "vocab.json": vocabulary,
        "tokenizer_config.json": tokens | {"tokenizer_class": "CLIPTokenizer"},
        "preprocessor_config.json": pictures | {"image_processor_type": "ViTImageProcessor"},
    }.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca r</w>\n")
    return folder
