"""Every mistake a user can make, told in one form: the value, the rule, the remedy; exit code 2, and nothing left behind."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import TINY, write_digits
from safetensors.torch import save_file

from acclimate.cli.main import main
from acclimate.core.run import CHECKPOINT, Run
from acclimate.engine.trainer import Stopped
from acclimate.engine.watcher import Watcher
from acclimate.strategies.last import last
from acclimate.verbs.fit import fit

ABSENT = "cuda" if sys.platform == "darwin" else "mps"
WORDS = {
    "TINY": f"--model {TINY} --size 32",
    "STOPPED": f"--strategy full --epochs 3 --batch-size 8 --model {TINY} --size 32",
    "ABSENT": ABSENT,
}
"""What stands for more in the commands below."""

CASES: dict[str, list[tuple[str, str]]] = {
    # command: (value and rule, remedy) of each mistake, in order; … stands for what varies from machine to machine
    # data
    "fit": [
        ("DATA: is missing", "name the data, or a recipe that does"),
    ],
    "fit ''": [
        ("'': is no path", "give the folder or the table that holds the data"),
    ],
    "fit digit": [
        ("digit: is not there: … holds no digit", "did you mean 'digits'?"),
    ],
    "fit digits/trian": [
        ("digits/trian: is not there: …/digits holds no trian", "did you mean 'train'? known: test, train"),
    ],
    "fit empty": [
        ("empty: is an empty folder", "give a folder with one folder of pictures per class"),
    ],
    "fit nothing": [
        (
            "nothing: holds 1 texts but no class folders",
            "put the texts of each class into a folder named after the class, or give a table with a label column",
        ),
    ],
    "fit one TINY": [
        (
            "one class only, '0': a classifier needs two classes or more",
            "add samples of another class, or name the column of the labels with --label",
        ),
    ],
    "fit flat": [
        (
            "flat: holds 12 pictures but no class folders",
            "put the pictures of each class into a folder named after the class, or give a table with a label column",
        ),
    ],
    "fit notes.txt": [
        (
            "notes.txt: is one text file, which names no labels",
            "give a table with labels, or class folders with one text a file",
        ),
    ],
    "fit picture.png": [
        ("picture.png: is one file that is no table", "give a folder of class folders, or a table with labels"),
    ],
    "fit table.csv": [
        ("table.csv: has no column known to hold labels", "name it with --label; columns: image, digit, colour"),
    ],
    "fit table.csv --label kind": [
        ("--label kind: is not a column of table.csv", "known: image, digit, colour"),
    ],
    "fit table.csv --label kind --image picture --group patient": [
        ("--image picture: is not a column of table.csv", "known: image, digit, colour"),
        ("--group patient: is not a column of table.csv", "known: image, digit, colour"),
        ("--label kind: is not a column of table.csv", "known: image, digit, colour"),
    ],
    "fit table.csv --label colour TINY": [
        (
            "one class only, 'grey': a classifier needs two classes or more",
            "add samples of another class, or name the column of the labels with --label",
        ),
    ],
    "fit table.csv --label digit --separator ''": [
        ("--separator '': is empty", "give what stands between two labels, for example '|'"),
    ],
    "fit broken.csv": [
        (
            "broken.csv: row 1: cannot be read as CSV: it has 3 fields, the header 2: 'a.png,1,2'",
            "correct the row; a field that holds the delimiter stands in quotation marks",
        ),
    ],
    "fit badsplit.csv --label digit": [
        (
            "'tain' in column split of badsplit.csv: is none of train, training, val, valid, validation, dev, test, testing",
            "correct the values, or name another column with --split",
        ),
    ],
    "fit lost.csv --label digit": [
        (
            "'x/a.png' in column image of lost.csv: is not there, nor is any other of the first 2",
            "paths are read relative to …; move the table beside its pictures, or correct the paths",
        ),
    ],
    "fit digits --label digit": [
        ("--label digit: has no effect on class folders", "leave it out"),
    ],
    "fit digits --separator '|'": [
        ("--separator |: has no effect on class folders", "leave it out"),
    ],
    "fit strange TINY": [
        (
            "strange: 3 in test: is lacking in training, which has 0, 1, 2",
            "correct the names, add training samples, or take the class out of test",
        ),
    ],
    "fit onlytest TINY": [
        ("onlytest: holds no training samples, only test", "give samples to train on besides"),
    ],
    "fit single TINY": [
        (
            "15% for val: cannot be cut: every sample is the last of its class, or its group holds a class whole",
            "add samples or groups, or give the splits",
        ),
    ],
    "fit broken TINY": [
        (
            "broken: samples that cannot be read: 2 of 36: more than 5%, which is no accident: "
            "0/0.png: is empty (0 bytes); 1/1.png: not a picture "
            "in a known format (JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, JPEG2000, AVIF, ICO)",
            "mend or remove them, or check that paths lead to pictures",
        ),
    ],
    "fit digits --task segmentation": [
        ("task 'segmentation': is not a known task", "known: image_classification, detection, text_classification"),
    ],
    # options
    "fit digits --model efficientnet_lite9": [
        (
            "model 'efficientnet_lite9': is not a known model, nor a folder that holds one",
            "did you mean 'efficientnet_lite4' or 'efficientnet_lite3' or 'efficientnet_lite2'? (acclimate models WORD lists them)",
        ),
    ],
    "fit digits --model timm:resnet5O": [
        (
            "model 'timm:resnet5O': is not one of timm's",
            "did you mean 'resnet50' or 'resnet51q' or 'resnet50t'? (acclimate models WORD lists them)",
        ),
    ],
    "fit digits --model torchvision:resnet49": [
        (
            "model 'torchvision:resnet49': is not one of torchvision's classification models",
            "did you mean 'resnet34' or 'resnet50' or 'resnet18'?",
        ),
    ],
    "fit digits --model hf:no:body": [
        (
            "model 'hf:no:body': is neither a folder nor a hub name (owner/name, or a name alone)",
            "see acclimate models",
        ),
    ],
    "fit digits --model gpt2": [
        (
            "model 'gpt2': is not a known model, nor a folder that holds one",
            "a model of the hub is named hf:gpt2; packaged models are "
            "of pictures: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, mobilenetv2; "
            "of texts: minilm, bge-small, colbert-small, reranker-minilm, e5-small, smollm2, wordllama (acclimate models WORD lists them)",
        ),
    ],
    "fit digits --model hf:gpt2": [
        (
            "model 'hf:gpt2': has no weights on this machine, and there is no network to fetch them from",
            "on a machine with a network: acclimate models get hf:gpt2; or give --weights FILE; "
            "or use a packaged model (of pictures: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, mobilenetv2; "
            "of texts: minilm, bge-small, colbert-small, reranker-minilm, e5-small, smollm2, wordllama)",
        ),
    ],
    "fit digits --model empty": [
        (
            "model 'empty': is not a known model, nor a folder that holds one",
            "give the folder of a finished run, or one with config.json and weights",
        ),
    ],
    "fit digits --strategy ful": [
        (
            "--strategy 'ful': is not a strategy",
            "did you mean 'full'? known: auto, probe, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
    ],
    "fit digits --strategy last:0": [
        ("--strategy 'last:0': must end in a whole number from 1", "for example last:2"),
    ],
    "fit digits --strategy last:x": [
        ("--strategy 'last:x': must end in a whole number from 1", "for example last:2"),
    ],
    "fit digits --strategy probe:2": [
        ("--strategy 'probe:2': takes no number", "write probe"),
    ],
    "fit digits --strategy last:99 TINY": [
        (
            "--strategy last:99: is more stages than the model has: 7",
            "at most last:7; the stages are conv_stem, blocks.0, blocks.1, blocks.2, blocks.3, blocks.4, conv_head",
        ),
    ],
    "fit digits --optimizer adma": [
        ("--optimizer 'adma': is not one of its values", "did you mean 'adam' or 'adamw'? known: adamw, sgd, adam"),
    ],
    "fit digits --device tpu": [
        ("--device 'tpu': is not one of its values", "did you mean 'cpu'? known: auto, cpu, cuda, mps"),
    ],
    "fit digits --device ABSENT": [
        ("device 'ABSENT': is not on this machine or not in this build of torch", "usable here: …"),
    ],
    "fit digits --optimiser sgd": [
        ("option --optimiser: is not an option of acclimate fit", "did you mean '--optimizer' or '--adapter'?"),
    ],
    "fit digits --model": [
        ("option --model: requires an argument", "see acclimate --help"),
    ],
    "fit digits photos": [
        ("acclimate fit: got unexpected extra argument (photos)", "see acclimate fit --help"),
    ],
    "fit digits --epochs 0": [
        (
            "--epochs 0: must be greater than or equal to 1",
            "it means: passes over the training data, in each phase that trains by steps",
        ),
    ],
    "fit digits --epochs ten": [
        (
            "--epochs ten: must be a valid integer",
            "it means: passes over the training data, in each phase that trains by steps",
        ),
    ],
    "fit digits --lr -1": [
        (
            "--lr -1: must be greater than 0",
            "it means: learning rate of the head or, where all layers share one, of all",
        ),
    ],
    "fit digits --lr nan": [
        (
            "--lr nan: must be a finite number",
            "it means: learning rate of the head or, where all layers share one, of all",
        ),
    ],
    "fit digits --val 1.5": [
        (
            "--val 1.5: must be less than 1",
            "it means: share of the training data cut off for validation (default 0.15)",
        ),
    ],
    "fit digits --minutes 0": [
        ("--minutes 0: must be greater than 0", "it means: wall-clock budget that is kept"),
    ],
    "fit digits --minutes -3": [
        ("--minutes -3: must be greater than 0", "it means: wall-clock budget that is kept"),
    ],
    "fit digits --minutes inf": [
        ("--minutes inf: must be a finite number", "it means: wall-clock budget that is kept"),
    ],
    "fit digits --size 4": [
        (
            "--size 4: must be greater than or equal to 16",
            "it means: what the model reads of a sample: side in pixels, or tokens of a text",
        ),
    ],
    "fit digits --seed -1": [
        ("--seed -1: must be greater than or equal to 0", "it means: names every random choice"),
    ],
    "fit digits --checkpoint-every -1": [
        ("--checkpoint-every: -1.0 is not in the range x>=0", "see acclimate fit --help"),
    ],
    "fit plain --val 0.6 --test 0.6 TINY": [
        ("--val 0.6 --test 0.6: leaves nothing for training", "give shares that sum to less than 1"),
    ],
    # no effect
    "fit digits --strategy probe --lr 0.1": [
        (
            "--lr 0.1: has no effect with --strategy probe",
            "leave it out, or choose a strategy that reads it: "
            "auto, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
    ],
    "fit digits --strategy last:1 --augment mixup": [
        (
            "--augment mixup: has no effect with --strategy last, which trains on cached views",
            "one of none, light, or --strategy full",
        ),
    ],
    "fit withval --val 0.2 TINY": [
        ("--val 0.2: has no effect: the data name their validation samples", "leave it out"),
    ],
    "fit digits --test 0.2 TINY": [
        ("--test 0.2: has no effect: the data name their test samples", "leave it out"),
    ],
    "fit digits --freeze blocks.9 TINY": [
        (
            "--freeze 'blocks.9': is not a stage of the model",
            "did you mean 'blocks.4' or 'blocks.3' or 'blocks.2'? "
            "known: conv_stem, blocks.0, blocks.1, blocks.2, blocks.3, blocks.4, conv_head",
        ),
    ],
    "fit digits --strategy last:2 --freeze conv_head TINY": [
        (
            "--freeze conv_head: has no effect with --strategy last",
            "leave it out, or choose a strategy that reads it: "
            "auto, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
    ],
    "fit digits --strategy full --epochs 3 --patience 3 TINY": [
        ("--patience 3: has no effect on a phase of 3 epochs: 'all layers'", "at most 2, or more --epochs"),
    ],
    "fit digits --strategy full --ema 0.9 --patience 2": [
        (
            "--ema 0.9 with --patience 2: exclude each other: one keeps an average, the other the best epoch",
            "leave one out",
        ),
    ],
    "fit digits --weights resnet.safetensors TINY": [
        (
            "--weights resnet.safetensors with --model random:timm:test_efficientnet: exclude each other",
            "write --model timm:test_efficientnet",
        ),
    ],
    # weights
    "fit digits --model timm:test_efficientnet --weights missing.safetensors": [
        ("weights 'missing.safetensors': is not a file", "give a .safetensors file or a torch state dict"),
    ],
    "fit digits --model timm:test_efficientnet --weights junk.safetensors": [
        ("weights 'junk.safetensors': is damaged (Error while deserializing header: …)", "fetch or save it again"),
    ],
    "fit digits --model timm:test_efficientnet --weights junk.pth": [
        ("weights 'junk.pth': is damaged or not a file of torch (KeyError)", "fetch or save it again"),
    ],
    "fit digits --model timm:test_efficientnet --weights code.pth": [
        (
            "weights 'code.pth': holds pickled code, which is never run",
            "save the weights alone, torch.save(model.state_dict(), FILE), or as safetensors",
        ),
    ],
    "fit digits --model timm:test_efficientnet --weights code-old.pth": [
        (
            "weights 'code-old.pth': holds pickled code, which is never run",
            "save the weights alone, torch.save(model.state_dict(), FILE), or as safetensors",
        ),
    ],
    "fit digits --model timm:test_efficientnet --weights code.pkl": [
        (
            "weights 'code.pkl': holds pickled code, which is never run",
            "save the weights alone, torch.save(model.state_dict(), FILE), or as safetensors",
        ),
    ],
    "fit digits --model timm:test_efficientnet --weights resnet.safetensors": [
        (
            "weights 'resnet.safetensors': does not fit EfficientNet: 69 missing (conv_stem.weight, …",
            "name the architecture that it was saved from",
        ),
    ],
    "fit digits --model hf:nobody/nothing": [
        (
            "model 'hf:nobody/nothing': has no weights on this machine, and there is no network to fetch them from",
            "on a machine with a network: acclimate models get hf:nobody/nothing; or give --weights FILE; "
            "or use a packaged model (of pictures: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, mobilenetv2; "
            "of texts: minilm, bge-small, colbert-small, reranker-minilm, e5-small, smollm2, wordllama)",
        ),
    ],
    "fit digits --model torchvision:resnet18": [
        (
            "model 'torchvision:resnet18': has no weights on this machine, and there is no network to fetch them from",
            "on a machine with a network: acclimate models get torchvision:resnet18; or give --weights FILE; "
            "or use a packaged model (of pictures: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, mobilenetv2; "
            "of texts: minilm, bge-small, colbert-small, reranker-minilm, e5-small, smollm2, wordllama); "
            "random:torchvision:resnet18 starts without pretrained weights",
        ),
    ],
    # together
    "fit digit --model efficientnet_lite9 --strategy ful --epochs 0 --optimizer adma --out notes.txt": [
        (
            "--epochs 0: must be greater than or equal to 1",
            "it means: passes over the training data, in each phase that trains by steps",
        ),
        ("--optimizer 'adma': is not one of its values", "did you mean 'adam' or 'adamw'? known: adamw, sgd, adam"),
        (
            "--strategy 'ful': is not a strategy",
            "did you mean 'full'? known: auto, probe, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
        ("digit: is not there: … holds no digit", "did you mean 'digits'?"),
        (
            "model 'efficientnet_lite9': is not a known model, nor a folder that holds one",
            "did you mean 'efficientnet_lite4' or 'efficientnet_lite3' or 'efficientnet_lite2'? (acclimate models WORD lists them)",
        ),
        ("--out 'notes.txt': exists and holds something else", "give another --out"),
    ],
    "fit digits --strategy probe --lr 0.1 --epochs 3 --device ABSENT": [
        (
            "--epochs 3: has no effect with --strategy probe",
            "leave it out, or choose a strategy that reads it: "
            "auto, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
        (
            "--lr 0.1: has no effect with --strategy probe",
            "leave it out, or choose a strategy that reads it: "
            "auto, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
        ("device 'ABSENT': is not on this machine or not in this build of torch", "usable here: …"),
    ],
    # run folder
    "fit digits --out full": [
        ("--out 'full': exists and holds something else", "give another --out"),
    ],
    "fit digits --out run": [
        ("--out 'run': holds a run", "give another --out"),
    ],
    "fit digits --out stopped": [
        ("--out 'stopped': holds an unfinished run", "go on with it by --resume, or give another --out"),
    ],
    "fit digits --out notes.txt": [
        ("--out 'notes.txt': exists and holds something else", "give another --out"),
    ],
    "fit digits --out notes.txt/run": [
        ("--out 'notes.txt/run': cannot be made: …/notes.txt is a file", "give another --out"),
    ],
    "fit digits --out full --resume": [
        ("--out 'full': exists and holds something else", "give another --out"),
    ],
    "fit digits --out stopped --resume --quiet TINY --strategy full --epochs 4": [
        (
            "--resume of 'stopped': was begun by another command, which differs in --batch-size, --epochs",
            "type it again, or begin anew with another --out; it was: acclimate fit digits "
            "--model random:timm:test_efficientnet --strategy full --epochs 3 --batch-size 8 --size 32 --out stopped",
        ),
    ],
    "fit digits --out stopped --resume --quiet STOPPED": [
        (
            "checkpoint 'stopped/checkpoint/last.safetensors': cannot be read (Error while deserializing header: …)",
            "remove it to begin the phase anew",
        ),
    ],
    # recipe
    "fit digits --model timm:test_efficientnet --size 32 --weights no.yaml": [
        ("weights 'no.yaml': is damaged or not a file of torch…", "fetch or save it again"),
    ],
    "evaluate run digit --split tset --device tpu": [
        ("--split 'tset': is not a split", "did you mean 'test'? known: train, val, test"),
        ("digit: is not there: … holds no digit", "did you mean 'digits'?"),
        ("device 'tpu': is not a known device", "did you mean 'cpu'? known: auto, cpu, cuda, mps"),
    ],
    "fit digits --task segmentation --strategy prob": [
        (
            "--strategy 'prob': is not a strategy",
            "did you mean 'probe'? known: auto, probe, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
        ("task 'segmentation': is not a known task", "known: image_classification, detection, text_classification"),
    ],
    "fit digits --model google/vit-base": [
        (
            "model 'google/vit-base': is not a known model, nor a folder that holds one",
            "a model of the hub is named hf:google/vit-base",
        ),
    ],
    "fit --recipe missing.yaml": [
        ("recipe 'missing.yaml': is not there", "give the recipe.yaml of a run"),
    ],
    "fit --recipe empty": [
        ("recipe 'empty': is not a YAML file", "give the recipe.yaml of a run"),
    ],
    "fit --recipe no.yaml": [
        ("recipe 'no.yaml': is not a YAML file", "give the recipe.yaml of a run"),
    ],
    "fit --recipe missing.yaml --strategy prob --epochs 0": [
        ("recipe 'missing.yaml': is not there", "give the recipe.yaml of a run"),
        (
            "--epochs 0: must be greater than or equal to 1",
            "it means: passes over the training data, in each phase that trains by steps",
        ),
        (
            "--strategy 'prob': is not a strategy",
            "did you mean 'probe'? known: auto, probe, last, lp-ft, full, layer-decay, gradual, lora, ia3, bitfit, contrastive, plain",
        ),
    ],
    "fit --recipe list.yaml": [
        ("recipe 'list.yaml': is not a mapping of keys to values", "give the recipe.yaml of a run"),
    ],
    "fit --recipe key.yaml": [
        ("recipe key 'modle': is not a key of a recipe", "known: acclimate, data, asked, resolved, decisions"),
    ],
    "fit --recipe option.yaml": [
        (
            "--lr -1: must be greater than 0",
            "it means: learning rate of the head or, where all layers share one, of all",
        ),
        ("option 'epoch': is not an option of fit", "did you mean 'epochs'?"),
    ],
    # shift
    "shift digits": [
        ("B: is missing", "see acclimate shift --help"),
    ],
    # predict
    "predict": [
        ("RUN: is missing", "see acclimate predict --help"),
    ],
    "predict run": [
        ("PATHS: is missing", "see acclimate predict --help"),
    ],
    "predict digit digits/test": [
        ("digit: is not there: … holds no digit", "did you mean 'digits'?"),
    ],
    "predict notes.txt digits/test": [
        ("run 'notes.txt': is a file", "give the run folder of a finished fit"),
    ],
    "predict full digits/test": [
        ("run 'full': holds no model", "give the run folder of a finished fit"),
    ],
    "predict stopped digits/test": [
        ("run 'stopped': holds no model", "fit it to its end with --resume"),
    ],
    "predict damaged digits/test": [
        (
            "model 'damaged/model.safetensors': is damaged (Error while deserializing header: …)",
            "restore the file or fit again",
        ),
    ],
    "predict manifest digits/test": [
        ("model 'manifest/model.json': is damaged", "restore the file or fit again"),
    ],
    "predict noweights digits/test": [
        ("model 'noweights/model.safetensors': is not there", "restore the file or fit again"),
    ],
    "predict foreign digits/test": [
        (
            "model 'foreign': has another model.safetensors or model.json than was saved",
            "restore the files or fit again",
        ),
    ],
    "predict run empty": [
        ("empty: holds no samples", "name files, folders or patterns that hold some"),
    ],
    "predict run tset.png digits/tset 'x*.png'": [
        ("tset.png: is not there: … holds no tset.png", "did you mean 'picture.png'?"),
        ("digits/tset: is not there: …/digits holds no tset", "did you mean 'test'? known: test, train"),
        ("x*.png: matches no file", "quote the pattern, and look at it with ls"),
    ],
    "predict run digits/test --out out.txt": [
        ("--out 'out.txt': has no ending that says its format", "known: .csv, .jsonl, .parquet"),
    ],
    "predict run digits/test --out out.csv --json": [
        ("--json with --out: exclude each other", "leave one out: the ending of --out says the format"),
    ],
    "predict run digits/test --out there/out.csv": [
        ("--out 'there/out.csv': is in a folder that is not there", "mkdir -p there"),
    ],
    "predict run digits/test --out folder.csv": [
        ("--out 'folder.csv': is a folder", "name a file in it"),
    ],
    "predict run digits/test --device tpu": [
        ("device 'tpu': is not a known device", "did you mean 'cpu'? known: auto, cpu, cuda, mps"),
    ],
    # evaluate
    "evaluate stopped digits": [
        ("run 'stopped': holds no model", "fit it to its end with --resume"),
    ],
    "evaluate run digit": [
        ("digit: is not there: … holds no digit", "did you mean 'digits'?"),
    ],
    "evaluate run digits --split tset": [
        ("--split 'tset': is not a split", "did you mean 'test'? known: train, val, test"),
    ],
    "evaluate run withval --split test": [
        ("--split 'test': is not a split of these data", "known: val, train"),
    ],
    "evaluate run plain --split test": [
        ("--split 'test': has no effect: the data name no splits", "leave it out"),
    ],
    "evaluate run strange": [
        (
            "class '3' (4 targets): not among the 3 classes of the training data",
            "take these samples out, or fit with them; known: 0, 1, 2",
        ),
    ],
    "evaluate run flat": [
        (
            "flat: holds 12 pictures but no class folders",
            "put the pictures of each class into a folder named after the class, or give a table with a label column",
        ),
    ],
    "evaluate run broken": [
        (
            "broken: samples that cannot be read: 2 of 36: more than 5%, which is no accident: "
            "0/0.png: is empty (0 bytes); 1/1.png: not a picture "
            "in a known format (JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, JPEG2000, AVIF, ICO)",
            "mend or remove them, or check that paths lead to pictures",
        ),
    ],
    "evaluate run table.csv --label kind": [
        ("--label kind: is not a column of table.csv", "known: image, digit, colour"),
    ],
    # models
    "models show resnet5O": [
        (
            "model 'resnet5O': is not a known model, nor a folder that holds one",
            "did you mean 'resnet50' or 'resnet51q' or 'resnet50t'? (acclimate models WORD lists them)",
        ),
    ],
    "models show": [
        ("NAME: is missing", "see acclimate models show --help"),
    ],
    "models get hf:nobody/nothing": [
        (
            "model 'hf:nobody/nothing': has no weights on this machine, and there is no network to fetch them from",
            "on a machine with a network: acclimate models get hf:nobody/nothing; or give --weights FILE; "
            "or use a packaged model (of pictures: efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, mobilenetv2; "
            "of texts: minilm, bge-small, colbert-small, reranker-minilm, e5-small, smollm2, wordllama)",
        ),
    ],
    "cache --cleer": [
        ("option --cleer: is not an option of acclimate cache", "did you mean '--clear'? known: --clear, --json"),
    ],
    "cache all": [
        ("acclimate cache: got unexpected extra argument (all)", "see acclimate cache --help"),
    ],
    "fti digits": [
        (
            "command 'fti': is not a known command",
            "did you mean 'fit'? known: fit, predict, evaluate, compare, runs, choose, shift, models, cache",
        ),
    ],
}


class Malice:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


class StopAt(Watcher):
    """Asks its own process to stop after the second step."""

    def step(self, step: int, loss: torch.Tensor, rate: float) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def build(folder: Path) -> None:
    """Data, weights, recipes and runs, each wrong in its own way, beside a few that are right."""
    write_digits(folder / "digits/train", 3, 12)
    write_digits(folder / "digits/test", 3, 4, first=12)
    write_digits(folder / "plain", 3, 12)
    write_digits(folder / "one", 1, 8)
    write_digits(folder / "single", 3, 1)
    write_digits(folder / "onlytest/test", 3, 4)
    write_digits(folder / "strange/train", 3, 8)
    write_digits(folder / "strange/test", 4, 4, first=8)
    write_digits(folder / "withval/train", 3, 8)
    write_digits(folder / "withval/val", 3, 4, first=8)
    for name in ("empty", "nothing", "full", "folder.csv"):
        (folder / name).mkdir()
    shutil.copytree(folder / "plain/0", folder / "flat")
    shutil.copy(folder / "plain/0/0.png", folder / "picture.png")
    shutil.copytree(folder / "plain", folder / "broken")
    (folder / "broken/0/0.png").write_bytes(b"")
    (folder / "broken/1/1.png").write_bytes(b"GIF89a and no more")
    files = sorted(folder.glob("plain/*/*.png"))
    rows = [f"{file.relative_to(folder)},{file.parent.name},grey" for file in files]
    for name, text in {
        "nothing/readme.txt": "nothing",
        "full/thesis.txt": "mine",
        "notes.txt": "mine",
        "table.csv": "\n".join(["image,digit,colour", *rows]),
        "broken.csv": "image,digit\na.png,1,2\n",
        "badsplit.csv": "\n".join(["image,digit,split", *(row.replace("grey", "tain") for row in rows)]),
        "lost.csv": "image,digit\nx/a.png,1\nx/b.png,2\n",
        "no.yaml": "a: [1\n  b: }",
        "list.yaml": "- 1\n",
        "key.yaml": "acclimate: 0.1.0\ndata: digits\nmodle: resnet50\n",
        "option.yaml": "acclimate: 0.1.0\ndata: digits\nasked: {epoch: 3, lr: -1}\n",
        "junk.safetensors": "junk" * 100,
        "junk.pth": "junk" * 100,
    }.items():
        (folder / name).write_text(text)
    torch.save({"weight": Malice()}, folder / "code.pth")
    torch.save({"weight": Malice()}, folder / "code-old.pth", _use_new_zipfile_serialization=False)
    (folder / "code.pkl").write_bytes(pickle.dumps(Malice()))
    save_file(timm.create_model("test_resnet").state_dict(), folder / "resnet.safetensors")


def build_runs() -> None:
    """A finished run, one that was stopped and whose checkpoint is torn, and finished ones that were damaged."""
    asked = {"model": TINY, "size": 32}
    fit("digits", strategy="probe", out="run", **asked)
    with pytest.raises(Stopped):
        fit("digits", strategy="full", epochs=3, batch_size=8, out="stopped", watcher=StopAt(), fresh=True, **asked)
    tear(Path("stopped", CHECKPOINT))
    for name in ("damaged", "manifest", "noweights", "foreign"):
        shutil.copytree("run", name)
    tear(Path("damaged/model.safetensors"))
    Path("manifest/model.json").write_text("{")
    Path("noweights/model.safetensors").unlink()
    shutil.copy("resnet.safetensors", "foreign/model.safetensors")


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build_runs()
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code of a command line."""
    for word, meaning in WORDS.items():
        command = command.replace(word, meaning)
    monkeypatch.setattr(sys, "argv", ["acclimate", *shlex.split(command)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files but the log and the lock of a run that is gone on with, which every attempt may touch."""
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = ("log.jsonl", ".lock")
    return {str(path.relative_to(folder)): None if path.name in kept else path.read_bytes() for path in found}


def assert_told(expected: list[tuple[str, str]], said: str) -> None:
    """Line by line; a run that has begun adds the line to go on with."""
    text = "".join(f"error: {what}\n  {remedy}\n" for what, remedy in expected)
    pattern = re.escape(text.replace("ABSENT", ABSENT)).replace("…", ".+")
    assert re.fullmatch(pattern + r"(the run is saved in .+\. Go on with:\n  acclimate fit .+ --resume\n)?", said), said


@pytest.mark.parametrize("command", CASES)
def test_a_mistake_is_told(
    command: str, world: Path, offline: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = contents(world)
    assert run(command, monkeypatch) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert_told(CASES[command], err)
    assert contents(world) == before


@pytest.mark.parametrize("variable, value", [("ACCLIMATE_CACHE", "notes.txt"), ("ACCLIMATE_CACHE_GB", "much")])
def test_a_wrong_variable_is_told(
    variable: str,
    value: str,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv(variable, value)
    assert run("cache", monkeypatch) == 2
    rules = {
        "ACCLIMATE_CACHE": ("cache 'notes.txt': cannot be made: file exists", "let ACCLIMATE_CACHE name a folder"),
        "ACCLIMATE_CACHE_GB": ("ACCLIMATE_CACHE_GB 'much': is not a number above 0", "give gigabytes, for example 20"),
    }
    assert_told([rules[variable]], capfd.readouterr().err)


@pytest.mark.parametrize("command", ["fit digits TINY --out locked/run", "predict run digits/test --out locked/x.csv"])
def test_a_folder_that_may_not_be_written_to(
    command: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    Path("locked").mkdir(mode=0o500, exist_ok=True)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    assert run(command, monkeypatch) == 2
    assert "locked" in (said := capfd.readouterr().err) and "Traceback" not in said
    assert not list(Path("locked").iterdir())


WRITTEN = [
    "recipe.yaml",
    "environment.json",
    "log.jsonl",
    "checkpoint/phase-0.safetensors",
    "model.safetensors",
    "model.json",
    "metrics.json",
]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the name of an open file there")
@pytest.mark.parametrize("file", WRITTEN)
def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    file: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    out, flush = tmp_path / "run", os.fsync

    def full(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink()
        if out in name.parents and Path(file).name in name.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    command = f"fit digits TINY --strategy probe --quiet --out {out}"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run(command, monkeypatch) == 2
    assert_told([(f"{out}/{file}: no space left on device", "make room there")], capfd.readouterr().err)
    assert not list(out.rglob("*.tmp"))
    assert run(f"{command} --resume", monkeypatch) == 0
    assert Run(out).finished


class Broken(Exception):
    """A fault of ours."""


def faulty(context: Any) -> Any:
    outcome = yield next(last(context))
    if "penalty" in outcome.notes:  # a preview makes its outcomes up
        raise Broken("the strategy is broken")
    return outcome


def test_a_fault_of_ours_keeps_its_traceback_and_says_how_to_go_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    import acclimate.strategies.last as module

    monkeypatch.chdir(world)
    command = f"fit digits TINY --strategy last:2 --epochs 1 --out {tmp_path / 'run'}"
    with monkeypatch.context() as patch:
        patch.setattr(module, "LAST", replace(module.LAST, plan=faulty))
        assert run(command, monkeypatch) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback (most recent call last)" in err and "in faulty\n" in err
    *_, fault, note, line = err.splitlines()
    assert fault.endswith("Broken: the strategy is broken")
    assert note == f"this is a fault of acclimate; the run is saved in {tmp_path / 'run'}. Go on with:"
    assert line.strip() == shlex.join(["acclimate", *sys.argv[1:], "--resume"])
    assert run(line.strip().removeprefix("acclimate "), monkeypatch) == 0
    assert Run(tmp_path / "run").finished
