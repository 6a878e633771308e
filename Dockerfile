# `tltoolkit serve` of an exported file on a CPU, without TensorFlow. Not tried: there was no Docker where it was written.
#   docker build -t tltoolkit-serve .
#   docker run --rm -p 8000:8000 -v "$PWD/model.onnx:/model.onnx:ro" tltoolkit-serve /model.onnx
FROM python:3.11-slim
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -r requirements-predict.txt \
    && pip install --no-cache-dir --no-deps . && useradd --create-home served
USER served
WORKDIR /home/served
EXPOSE 8000
# SIGTERM, which `docker stop` sends, lets it finish; as the first process it gets that itself.
ENTRYPOINT ["tltoolkit", "serve", "--host", "0.0.0.0", "--port", "8000"]
