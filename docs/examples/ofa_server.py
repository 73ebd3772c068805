"""OFA behind the remote captioner's protocol.

It runs in an environment of its own, with OFA's fork of transformers: docs/guides/remote-captioners.md has
the recipe. Needs ``caption_server.py`` beside it::

    python ofa_server.py ./OFA-base

Wang et al. 2022, arXiv:2202.03052. The calls follow OFA's own transformers.md.
"""

import argparse
import io
import os
from pathlib import Path

from caption_server import serve

PROMPT = " what does the image describe?"
RESOLUTIONS = {"tiny": 256, "medium": 256, "base": 384, "large": 480, "huge": 480}


def resolution_of(folder):
    """The side in pixels that the size in a folder's name was trained at; 384 when it names none."""
    name = Path(folder).name.lower()
    return next((side for size, side in RESOLUTIONS.items() if size in name), 384)


def generation(options):
    """The options of a request as the fork's ``generate`` knows them."""
    for name, only in {"do_sample": False, "min_new_tokens": 0, "beam_scores": "log_probabilities"}.items():
        if options.get(name, only) != only:
            raise ValueError(f"this server knows no {name}")
    beams, captions = options.get("num_beams", 1), options.get("num_captions", 1)
    if captions > beams:
        raise ValueError(f"num_captions={captions} needs as many beams, but num_beams={beams}")
    return {
        "num_beams": beams,
        "num_return_sequences": captions,
        "max_length": options.get("max_new_tokens", 30) + 1,  # the start token counts
        "repetition_penalty": options.get("repetition_penalty", 1.0),
        "no_repeat_ngram_size": 3,
    }


def load(folder, device):
    """A function that captions an image by the model in a folder."""
    import torch
    from PIL import Image
    from torchvision import transforms
    from transformers import OFAModel, OFATokenizer

    side = resolution_of(folder)
    tokenizer = OFATokenizer.from_pretrained(folder)
    model = OFAModel.from_pretrained(folder, use_cache=False).to(device).eval()
    prepare = transforms.Compose(
        [
            transforms.Resize((side, side), interpolation=Image.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    def caption(content, options):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        question = tokenizer([options.get("prompt") or PROMPT], return_tensors="pt").input_ids.to(device)
        pixels = prepare(image).unsqueeze(0).to(device)
        with torch.no_grad():
            written = model.generate(question, patch_images=pixels, **generation(options))
        return [{"text": text.strip()} for text in tokenizer.batch_decode(written, skip_special_tokens=True)]

    return caption


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="of the weights, e.g. a clone of OFA-Sys/OFA-base")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8118)
    asked = parser.parse_args()
    token = os.environ.get("CAPTION_TOKEN") or None
    name = f"OFA-Sys/{Path(asked.folder).resolve().name}"
    serve(load(asked.folder, asked.device), model=name, host=asked.host, port=asked.port, token=token)


if __name__ == "__main__":
    main()
