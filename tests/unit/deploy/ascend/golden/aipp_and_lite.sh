#!/usr/bin/env bash
# unet_dist VERSION: model.onnx, SHA-256 0123456789abcdef...,
# for Ascend310P3 by CANN 8.0, whose set_env.sh must have been sourced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

echo '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  ../model.onnx' | sha256sum --check --quiet

atc \
    --framework=5 \
    --model=../model.onnx \
    --output=model_Ascend310P3_1x3x256x512_DIGEST \
    --input_format=NCHW \
    --input_shape=image:1,3,256,512 \
    --soc_version=Ascend310P3 \
    --precision_mode_v2=fp16 \
    --insert_op_conf=aipp_256x512.cfg \
    --log=error

converter_lite \
    --fmk=ONNX \
    --modelFile=../model.onnx \
    --outputFile=model_Ascend310P3_1x3x256x512_DIGEST \
    --saveType=MINDIR \
    --optimize=ascend_oriented \
    --inputShape=image:1,3,256,512 \
    --configFile=lite_model_Ascend310P3_1x3x256x512_DIGEST.ini
