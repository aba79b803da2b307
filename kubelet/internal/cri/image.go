package cri

import (
	"context"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus returns the image, or nil when the runtime does not have it.
func (c *Client) ImageStatus(ctx context.Context, spec *runtimeapi.ImageSpec) (*runtimeapi.Image, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		return nil, err
	}
	return r.Image, nil
}

// PullImage pulls and returns the image reference; it has no timeout but ctx's.
func (c *Client) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	r, err := c.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: spec, Auth: auth, SandboxConfig: sandbox})
	if err != nil {
		return "", err
	}
	if r.ImageRef == "" {
		return "", fmt.Errorf("imageRef of image %q is not set", spec.Image)
	}
	return r.ImageRef, nil
}

// Images lists the images the runtime has.
func (c *Client) Images(ctx context.Context) ([]*runtimeapi.Image, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return r.Images, nil
}

// RemoveImage removes an image by its ID or reference.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	return err
}

// ImageFilesystems returns the mount points below which images and writable layers are kept.
func (c *Client) ImageFilesystems(ctx context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		return nil, fmt.Errorf("get image filesystem: %w", err)
	}
	return r, nil
}
