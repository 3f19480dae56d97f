#!/usr/bin/env bash
# unet_dist VERSION: model.onnx, SHA-256 0123456789abcdef...,
# for Ascend910A by CANN 8.0, whose set_env.sh must have been sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

echo '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  ../model.onnx' | sha256sum --check --quiet

atc \
    --framework=5 \
    --model=../model.onnx \
    --output=model_Ascend910A_bx3x256x256_DIGEST \
    --input_format=NCHW \
    --input_shape=image:-1,3,256,256 \
    --soc_version=Ascend910A \
    --precision_mode=allow_mix_precision \
    --dynamic_batch_size=1,2,4 \
    --input_fp16_nodes=image \
    --log=error
